"""Writing a file whole or not at all."""

from etils import epath

from ict_jax.core.errors import ArgumentError, require
from ict_jax.files import failures, writable_directory, write_at_once


def write_whole(path: epath.Path, content: bytes, what: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      ArgumentError: it cannot be written; `what` names it in the message.
    """
    require(not path.is_dir(), f"{what}={path} is a directory; give the name of a file.")
    writable_directory(path.parent, what)
    try:
        write_at_once(path, content)
    except failures() as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"{what}={path} cannot be written ({reason}); make room, or give another file."
        ) from error
