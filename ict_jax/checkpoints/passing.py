"""Errors that say nothing of what is stored, but of the way to it."""

import errno
import os
import re

from etils import epath

from ict_jax.runtime.storage import failures, is_remote

_PASSING_NAMES = (
    *("EACCES", "EPERM", "EIO", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM"),
    *("ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET"),
    *("ENOTCONN", "ENOLINK", "EREMOTEIO"),
)
_PASSING_NUMBERS = {getattr(errno, name) for name in _PASSING_NAMES if hasattr(errno, name)}
_PASSING_STATUS = re.compile(  # TensorStore's, which come as ValueError
    r"\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|"
    + "|".join(_PASSING_NAMES)
    + r")\b"
)


def may_pass(error: BaseException | None) -> bool:
    """Whether an error says nothing of what is stored, but of the way to it."""
    while error is not None:
        if isinstance(error, OSError):
            passing = (PermissionError, TimeoutError, ConnectionError)
            if isinstance(error, passing) or error.errno in _PASSING_NUMBERS:
                return True
        elif isinstance(error, (MemoryError, *failures())) or _PASSING_STATUS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def closed_way(path: epath.Path) -> OSError | None:
    """Why a part of a directory on a disk cannot be looked at, where it seems not to be there."""
    found: list[OSError] = []
    if not is_remote(path):
        for _ in os.walk(path, onerror=found.append):
            pass
    return next(filter(may_pass, found), None)
