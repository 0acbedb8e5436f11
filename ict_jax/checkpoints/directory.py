"""The directories of a run's checkpoints: whole, half-written and damaged ones."""

import errno
import time

from etils import epath

from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import is_remote, writing

DIRECTORY = "checkpoints"
DAMAGED = "damaged_checkpoints"
HALF_WRITTEN = "orbax-checkpoint-tmp"  # in the name of a directory that a save has not finished
STILL_WRITING_SECS = 20
"""When one part of a save has failed, the others still write for so long at most."""
COMMITTED = "commit_success.txt"  # in a bucket, where no directory is renamed, a save ends with it


def is_whole(step: epath.Path) -> bool:
    """Whether the directory of a step has been written to its end."""
    return (step / COMMITTED).is_file() if is_remote(step) else step.is_dir()


def newest_whole(directory: epath.Path) -> epath.Path | None:
    """The newest checkpoint of a directory that has been written to its end."""
    steps = [path for path in directory.iterdir() if path.name.isdecimal() and is_whole(path)]
    return max(steps, key=lambda path: int(path.name), default=None)


def remove_half_written(directory: epath.Path) -> None:
    """Removes what a save left that was cut off; to be called by all processes."""
    with all_or_none(), writing(directory, "the directory of checkpoints"):
        if is_main():
            directory.mkdir(parents=True, exist_ok=True)
            # In a bucket a directory is there only while it holds something.
            for path in directory.iterdir() if directory.is_dir() else ():
                if HALF_WRITTEN in path.name:
                    _remove(path)


def _remove(path: epath.Path) -> None:
    deadline = time.monotonic() + STILL_WRITING_SECS
    while path.exists():
        try:
            path.rmtree()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def set_aside(step: epath.Path) -> epath.Path:
    """Moves a damaged checkpoint out of the way; to be called by all processes.

    Args:
      step: its directory.

    Returns:
      The directory that it is moved to, beside that of the good ones.
    """
    aside = step.parent.parent / DAMAGED / step.name
    with all_or_none(), writing(aside, "the directory of damaged checkpoints"):
        if is_main():
            aside.parent.mkdir(parents=True, exist_ok=True)
            # In a bucket it is there only while it holds something.
            (aside.parent / "README").write_text("Checkpoints that could not be read.\n")
            if aside.exists():
                aside.rmtree()
            step.rename(aside)
    return aside


def damaged_steps(directory: epath.Path) -> list[int]:
    """The steps of the damaged checkpoints that were set aside from a directory."""
    aside = directory.parent / DAMAGED
    return (
        sorted(int(p.name) for p in aside.iterdir() if p.name.isdecimal()) if aside.is_dir() else []
    )
