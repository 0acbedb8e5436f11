"""Directories that are written to."""

import os
from pathlib import Path

from ict_jax.core.errors import ArgumentError


def writable_directory(path: Path, what: str) -> Path:
    """Makes a directory and checks that files can be written there.

    Raises:
      ArgumentError: it cannot be; `what` names it in the message.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_test_{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ArgumentError(
            f"{what}={path} cannot be written to ({error.strerror}); give a directory of your own."
        ) from error
    return path
