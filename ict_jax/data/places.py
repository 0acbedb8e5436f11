"""Directories and buckets of data that the user has named, in a config or on the command line."""

import hashlib
import os
import shlex
from pathlib import Path

from ict_jax.core.errors import require
from ict_jax.runtime.console import not_essential
from ict_jax.runtime.storage import cache_directory, is_remote, write_at_once


def remember(data_dir: str | None) -> None:
    """Notes that the user has named a place; never of a place that a checkpoint names."""
    if data_dir is not None:
        with not_essential("the note of where you have data"):
            write_at_once(_note(data_dir), f"{_absolute(data_dir)}\n".encode())


def choose(stored: str | None, given: str | None, checkpoint: str) -> str | None:
    """The place to read the data of a checkpoint from.

    Args:
      stored: `data.data_dir` of its config, which somebody else may have written.
      given: by the user, as --data_dir.
      checkpoint: as the user gave it.

    Returns:
      The given place; or the stored one, None for sets that have a place of their own.

    Raises:
      ArgumentError: neither was it given, nor has the user named the stored one on this machine.
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
