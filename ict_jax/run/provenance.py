"""Record of when, where and with which versions a run was started."""

import datetime
import json
import platform
import shlex
import sys
from importlib import metadata
from typing import Any

from etils import epath

from ict_jax.runtime.storage import io_errors, write_atomically

FILE = "environment.json"
PACKAGES = ("ict_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def record_start(workdir: epath.Path, *, step: int, devices: str) -> None:
    """Add this start, from `step` on, to those in `environment.json`.

    Raises:
      NotSaved: the file cannot be written.
    """
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "step": step,
        "devices": devices,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    starts = [*read_starts(workdir), start]
    write_atomically(workdir / FILE, f"{json.dumps(starts, indent=2)}\n".encode())


def read_starts(workdir: epath.Path) -> list[dict[str, Any]]:
    """Read the starts of a run, oldest first; none if they cannot be read."""
    try:
        starts = json.loads((workdir / FILE).read_text())
    except (*io_errors(), ValueError):
        return []
    return [s for s in starts if isinstance(s, dict)] if isinstance(starts, list) else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its sources
        return None
