"""Directories that are written to."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
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


@contextlib.contextmanager
def locked_directory(path: Path, what: str) -> Iterator[None]:
    """Makes a directory and holds a lock on it, which the system frees if the process dies.

    Raises:
      ArgumentError: it cannot be written to, or another process holds the lock.
    """
    writable_directory(path, what)
    with (path / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ArgumentError(
                f"{what}={path} is in use by the run with process id {file.read().strip()}; wait "
                "until it ends, or give another directory."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
