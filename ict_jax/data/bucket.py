"""Data in a bucket, copied to this machine once."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime.console import format_secs, say
from ict_jax.runtime.storage import (
    cache_directory,
    contained,
    failures,
    inside,
    to_path,
    write_at_once,
)

CACHE = "ICT_DATA_CACHE"
"""Environment variable: directory of the copies; default: ~/.cache/ict_jax/data."""

THREADS = 8
TOLD_EVERY_SECS = 20


def local_copy(url: str, name: str = "") -> str:
    """The directory on this machine that holds what a directory in a bucket holds.

    Files that are there already, of the same size, are not copied again, and copies of those that
    the bucket no longer holds are removed; a copy that was cut off leaves none under its name. Of
    several processes of a machine one copies, and the others wait.

    Args:
      url: of the directory, as in gs://bucket/data.
      name: of the one subdirectory that is needed; default: all of it.

    Raises:
      ArgumentError: there is nothing, or it cannot be read or written; a name leads out of the
        directory; or the copy has a link, or a file that was not copied.
    """
    root = Path(os.environ.get(CACHE) or cache_directory("data")).absolute()
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    cache, source = inside(root, key, CACHE), to_path(url) / name
    target = inside(cache, name, url) if name else cache
    try:
        files = dict(_files(source, f"{name}/" if name else ""))
        require(bool(files), f"{source} holds no files; give another config.data.data_dir.")
        target.mkdir(parents=True, exist_ok=True)
        with _locked(inside(root, f"{key}.lock", CACHE)) as alone:
            written = _Written(cache, inside(root, f"{key}.json", CACHE))
            written.refuse_others(target, files)
            _copy_all(source, target, written, files)
            if alone:
                written.remove_others(target, files)
    except failures() as error:
        raise ArgumentError(
            f"{source} could not be copied to {target} ({error}); see that it can be read and that "
            f"there is room, or set {CACHE} to another directory."
        ) from error
    return str(cache)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Waits for the lock; false where there are none: then all copy, which is slower, not wrong."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def _files(directory: epath.Path, above: str) -> Iterator[tuple[str, epath.Path]]:
    """Names, which begin with `above`, and paths of all files."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        # An object in a bucket may be named like a directory, and is listed as if it were in it.
        if path == directory or (path.name == directory.name and not path.exists()):
            continue
        name = f"{above}{contained(path.name, directory)}"
        if path.is_dir():
            yield from _files(path, f"{name}/")
        else:
            yield name, path


class _Written:
    """The names of all that was written below a directory; nothing else is removed there."""

    def __init__(self, directory: Path, listing: Path):
        self.directory = directory
        self._listing = listing
        self._names = set(json.loads(listing.read_text())) if listing.is_file() else set()

    def add(self, names: Iterable[str]) -> None:
        """To be called before they are written."""
        self._names.update(names)
        write_at_once(self._listing, json.dumps(sorted(self._names)).encode())

    def refuse_others(self, target: Path, names: Container[str]) -> None:
        """Raises `ArgumentError` if readers of `target` would see more than names and written."""
        for path in target.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(target).parts)
            name = path.relative_to(self.directory).as_posix()
            require(
                hidden
                or name in names
                or name in self._names
                or (path.is_dir() and not path.is_symlink()),
                f"{path} lies among copies of a bucket and is none; remove it, or set {CACHE} to "
                "another directory.",
            )

    def remove_others(self, target: Path, names: Container[str]) -> None:
        """Removes what was written below `target` and is not among names."""
        for name in [name for name in self._names if name not in names]:
            path = inside(self.directory, name, self._listing)
            if path.is_relative_to(target):
                path.unlink(missing_ok=True)
                self._names.remove(name)
                with contextlib.suppress(OSError):  # of what is not empty
                    os.removedirs(path.parent)
        self.add(())


def _copy_all(
    source: epath.Path, target: Path, written: _Written, files: dict[str, epath.Path]
) -> None:
    """Copies the files, by their names below `written.directory`, that are not there."""
    started = told = time.monotonic()
    copied = 0
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = pool.map(lambda path: path.stat().length, files.values())
        left = {
            name: (place, place.with_name(f".{place.name}.{uuid.uuid4().hex}"))
            for name, size in zip(files, sizes, strict=True)
            if not _has_size(place := inside(written.directory, name, source), size)
        }
        if left:
            parts = (part.relative_to(written.directory).as_posix() for _, part in left.values())
            written.add([*left, *parts])

        def copy(name: str) -> int:
            place, part = left[name]
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with files[name].open("rb") as read, part.open("xb") as file:
                    shutil.copyfileobj(read, file, 2**22)
                    size = file.tell()
                part.replace(place)
            finally:
                part.unlink(missing_ok=True)
            return size

        for done, size in enumerate(pool.map(copy, left), start=1):
            copied += size
            if time.monotonic() - told > TOLD_EVERY_SECS:
                told = time.monotonic()
                say(f"copying {source}: {done:,} of {len(left):,} files")
    if left:
        secs = format_secs(time.monotonic() - started)
        say(f"copied {copied / 2**20:,.1f} MiB from {source} to {target} in {secs}")


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
