"""Locks that the operating system releases when a process dies."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ict_jax.core.errors import ArgumentError
from ict_jax.runtime.storage import AnyPath, is_remote, translate_write_errors, writable_directory

_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def hold_lock(path: Path, *, wait: bool) -> Iterator[OSError | None]:
    """Hold the lock of a file, or yield the error of a disk that supports no locks.

    Raises:
      Timeout: another process holds the lock, and is not waited for.
      OSError: the file cannot be opened or locked.
    """
    # The fallback of filelock, a file that exists while locked, would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    unsupported = None
    try:
        lock.acquire(blocking=wait)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        unsupported = error
    try:
        yield unsupported
    finally:
        lock.release()


@contextlib.contextmanager
def locked_directory(path: AnyPath, what: str) -> Iterator[None]:
    """Create a directory if needed and lock it; raise `ArgumentError` if that fails.

    Nothing keeps two runs apart in a bucket, nor on a disk without locks, where a warning says so.
    """
    writable_directory(path, what)
    if is_remote(path):
        yield
        return
    file = Path(path) / ".lock"
    with contextlib.ExitStack() as held:
        with translate_write_errors(file, f"the lock of {what}"):
            try:
                unsupported = held.enter_context(hold_lock(file, wait=False))
            except Timeout as error:
                raise ArgumentError(
                    f"{what}={path} is in use by the run with process id "
                    f"{file.read_text().strip()}; wait until it ends, or give another directory."
                ) from error
            file.write_text(str(os.getpid()))
        if unsupported is not None:
            sys.stderr.write(
                f"WARNING: the disk of {what}={path} has no locks ({unsupported.strerror}); make "
                "sure that no other run uses this directory\n"
            )
        yield
