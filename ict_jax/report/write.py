"""Writing a file whole or not at all."""

from etils import epath

from ict_jax.core.errors import require
from ict_jax.files import writable_directory, write_at_once


def write_whole(path: epath.Path, content: bytes, what: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      ArgumentError: it is a directory, or in one that cannot be written to; `what` names it.
      NotSaved: it cannot be written.
    """
    require(not path.is_dir(), f"{what}={path} is a directory; give the name of a file.")
    writable_directory(path.parent, what)
    write_at_once(path, content)
