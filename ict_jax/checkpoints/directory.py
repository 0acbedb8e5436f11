"""Directories of checkpoints: complete, incomplete and damaged ones."""

import errno
import time

from etils import epath

from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import is_remote, translate_write_errors

DIRECTORY = "checkpoints"
DAMAGED = "damaged_checkpoints"
INCOMPLETE = "orbax-checkpoint-tmp"  # in the name of a directory until its save has finished
STILL_WRITING_SECS = 20
"""Longest time that other parts of a save go on writing after one has failed."""
COMMITTED = "commit_success.txt"  # ends a save in a bucket, where no directory is renamed


def is_complete(step: epath.Path) -> bool:
    """Return whether the directory of a step has been written completely."""
    return (step / COMMITTED).is_file() if is_remote(step) else step.is_dir()


def complete_steps(directory: epath.Path) -> list[int]:
    """Return the steps of the complete checkpoints, in order."""
    return [step for step in _steps(directory) if is_complete(directory / str(step))]


def damaged_steps(directory: epath.Path) -> list[int]:
    """Return the steps of the damaged checkpoints that were moved out of a directory, in order."""
    return _steps(directory.parent / DAMAGED)


def _steps(directory: epath.Path) -> list[int]:
    paths = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdecimal())


def remove_incomplete(directory: epath.Path) -> None:
    """Remove what interrupted saves left; call in all processes."""
    with all_or_none(), translate_write_errors(directory, "the directory of checkpoints"):
        if is_main():
            directory.mkdir(parents=True, exist_ok=True)
            # In a bucket an empty directory does not exist.
            for path in directory.iterdir() if directory.is_dir() else ():
                if INCOMPLETE in path.name:
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


def quarantine(step: epath.Path) -> epath.Path:
    """Move a damaged step out of the way, to the returned directory; call in all processes."""
    target = step.parent.parent / DAMAGED / step.name
    with all_or_none(), translate_write_errors(target, "the directory of damaged checkpoints"):
        if is_main():
            target.parent.mkdir(parents=True, exist_ok=True)
            # In a bucket this keeps the directory in existence.
            (target.parent / "README").write_text("Checkpoints that could not be read.\n")
            if target.exists():
                target.rmtree()
            step.rename(target)
    return target
