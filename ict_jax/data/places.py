"""Data directories and buckets that the user has named, in a config or on the command line."""

import hashlib
import os
import shlex
from pathlib import Path

from ict_jax.core.errors import require
from ict_jax.runtime.console import best_effort
from ict_jax.runtime.storage import cache_directory, is_remote, write_atomically


def remember(data_dir: str | None) -> None:
    """Record a place that the user has named; never call it for one that a checkpoint names."""
    if data_dir is not None:
        with best_effort("the note of where you have data"):
            write_atomically(_note(data_dir), f"{_absolute(data_dir)}\n".encode())


def choose(stored: str | None, given: str | None, checkpoint: str) -> str | None:
    """Choose the place to read a checkpoint's data from: the given one, else the stored one.

    Args:
      stored: `data.data_dir` of its config, which somebody else may have written.
      given: the user's --data_dir.
      checkpoint: the path as the user gave it.

    Raises:
      ArgumentError: none was given, and the user never named the stored one on this machine.
    """
    if given is not None or stored is None:
        return given
    place = _absolute(str(stored))
    require(
        _note(str(stored)).is_file(),
        f"--checkpoint={checkpoint} says that its data is in {place!r}, a place that was not "
        f"named on this machine before; allow that with --data_dir={shlex.quote(place)}, or give "
        "another place of the same data.",
    )
    return stored


def _absolute(data_dir: str) -> str:
    return data_dir if is_remote(data_dir) else os.path.abspath(os.path.expanduser(data_dir))


def _note(data_dir: str) -> Path:
    name = hashlib.sha256(_absolute(data_dir).encode()).hexdigest()
    return cache_directory("data_places") / name
