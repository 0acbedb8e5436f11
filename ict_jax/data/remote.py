"""Data in a bucket, copied to this machine once."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from ict_jax.console import format_secs, say
from ict_jax.core.errors import ArgumentError, require
from ict_jax.files import failures, to_path

CACHE = "ICT_DATA_CACHE"
"""Environment variable: directory of the copies; default: ict_jax_data among temporary files."""

THREADS = 8
TOLD_EVERY_SECS = 20


def local_copy(url: str, name: str = "") -> str:
    """The directory on this machine that holds what a directory in a bucket holds.

    Files that are there already, of the same size, are not copied again, and those that the bucket
    no longer holds are removed; a copy that was cut off leaves none under its name. Of several
    processes of a machine one copies, and the others wait.

    Args:
      url: of the directory, as in gs://bucket/data.
      name: of the one subdirectory that is needed; default: all of it.

    Raises:
      ArgumentError: there is nothing, or it cannot be read or written.
    """
    default = Path(tempfile.gettempdir()) / "ict_jax_data"
    cache = Path(os.environ.get(CACHE) or default) / hashlib.sha256(url.encode()).hexdigest()[:16]
    source, target = to_path(url) / name, cache / name
    try:
        files = list(_files(source)) if source.is_dir() else []
        require(bool(files), f"{source} holds no files; give another config.data.data_dir.")
        target.mkdir(parents=True, exist_ok=True)
        with _locked(cache.with_name(f"{cache.name}.lock")) as alone:
            _copy_all(source, target, files)
            if alone:
                _remove_others(target, {_copy_of(path, source, target) for path in files})
    except failures() as error:
        raise ArgumentError(
            f"{source} could not be copied to {target} ({error}); see that it can be read and that "
            f"there is room, or set {CACHE} to another directory."
        ) from error
    return str(cache)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Waits for the lock; false where there are none: then all copy, which is slower, not wrong."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def _files(directory: epath.Path) -> Iterator[epath.Path]:
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _copy_of(path: epath.Path, source: epath.Path, target: Path) -> Path:
    return target / os.path.relpath(os.fspath(path), os.fspath(source))


def _remove_others(target: Path, kept: set[Path]) -> None:
    for path in target.rglob("*"):
        if path not in kept and not path.is_dir():
            path.unlink()


def _copy_all(source: epath.Path, target: Path, files: list[epath.Path]) -> None:
    def copy(path: epath.Path) -> int:
        to = _copy_of(path, source, target)
        size = path.stat().length
        if to.is_file() and to.stat().st_size == size:
            return 0
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(f".{to.name}.{uuid.uuid4().hex}")
        try:
            with path.open("rb") as read, part.open("wb") as written:
                shutil.copyfileobj(read, written, 2**22)
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)
        return size

    started = told = time.monotonic()
    copied = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for done, size in enumerate(pool.map(copy, files), start=1):
            copied += size
            if time.monotonic() - told > TOLD_EVERY_SECS:
                told = time.monotonic()
                say(f"copying {source}: {done:,} of {len(files):,} files")
    if copied:
        secs = format_secs(time.monotonic() - started)
        say(f"copied {copied / 2**20:,.1f} MiB from {source} to {target} in {secs}")
