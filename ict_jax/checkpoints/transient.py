"""Errors of access to a checkpoint, which say nothing about its content."""

import errno
import os
import re

from etils import epath

from ict_jax.runtime.storage import io_errors, is_remote

_TRANSIENT_NAMES = (
    *("EACCES", "EPERM", "EIO", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM"),
    *("ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET"),
    *("ENOTCONN", "ENOLINK", "EREMOTEIO"),
)
_TRANSIENT_NUMBERS = {getattr(errno, name) for name in _TRANSIENT_NAMES if hasattr(errno, name)}
_TRANSIENT_STATUS = re.compile(  # TensorStore raises these as ValueError
    r"\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|"
    + "|".join(_TRANSIENT_NAMES)
    + r")\b"
)


def is_transient(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, is of access rather than of content."""
    while error is not None:
        if isinstance(error, OSError):
            transient = (PermissionError, TimeoutError, ConnectionError)
            if isinstance(error, transient) or error.errno in _TRANSIENT_NUMBERS:
                return True
        elif isinstance(error, (MemoryError, *io_errors())) or _TRANSIENT_STATUS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def find_access_error(path: epath.Path) -> OSError | None:
    """Return the error that hides a part of a directory on disk, which Orbax takes for absent."""
    found: list[OSError] = []
    if not is_remote(path):
        for _ in os.walk(path, onerror=found.append):
            pass
    return next(filter(is_transient, found), None)
