"""Writing a file whole or not at all."""

import uuid

from etils import epath

from ict_jax.core.errors import ArgumentError, require
from ict_jax.files import failures, writable_directory


def write_whole(path: epath.Path, content: bytes, what: str) -> None:
    """Writes a file beside its place and moves it there, so that it never is half-written.

    Raises:
      ArgumentError: it cannot be written; `what` names it in the message.
    """
    require(not path.is_dir(), f"{what}={path} is a directory; give the name of a file.")
    writable_directory(path.parent, what)
    beside = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except failures() as error:
        beside.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"{what}={path} cannot be written ({reason}); make room, or give another file."
        ) from error
