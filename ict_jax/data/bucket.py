"""Data in a bucket, copied to this machine once."""

import contextlib
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
from ict_jax.runtime.locks import hold_lock
from ict_jax.runtime.storage import (
    cache_directory,
    io_errors,
    safe_join,
    safe_relative_path,
    to_path,
    write_atomically,
)

CACHE = "ICT_DATA_CACHE"  # names the directory of the copies; default: ~/.cache/ict_jax/data
THREADS = 8
REPORT_SECS = 20


def local_copy(url: str, name: str = "") -> str:
    """Return the local copy of a directory in a bucket, updated.

    Files with the size of the original are not copied again, and copies that the bucket no longer
    holds are removed; an interrupted copy leaves no file under its name. One process of a machine
    copies while the others wait.

    Args:
      url: the directory, such as gs://bucket/data.
      name: the only subdirectory to copy; default: all of it.

    Raises:
      ArgumentError: there are no files, or they cannot be read or written; a name leads out of the
        directory; or the copy contains a link, or a file that was not copied.
    """
    root = Path(os.environ.get(CACHE) or cache_directory("data")).absolute()
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    cache, source = safe_join(root, key, CACHE), to_path(url) / name
    target = safe_join(cache, name, url) if name else cache
    try:
        files = dict(_files(source, f"{name}/" if name else ""))
        require(bool(files), f"{source} holds no files; give another config.data.data_dir.")
        target.mkdir(parents=True, exist_ok=True)
        # Without locks all processes copy, which is slower, and none removes.
        with hold_lock(safe_join(root, f"{key}.lock", CACHE), wait=True) as unsupported:
            manifest = _Manifest(cache, safe_join(root, f"{key}.json", CACHE))
            manifest.refuse_others(target, files)
            _copy_missing(source, target, manifest, files)
            if unsupported is None:
                manifest.remove_others(target, files)
    except io_errors() as error:
        raise ArgumentError(
            f"{source} could not be copied to {target} ({error}); see that it can be read and that "
            f"there is room, or set {CACHE} to another directory."
        ) from error
    return str(cache)


def _files(directory: epath.Path, prefix: str) -> Iterator[tuple[str, epath.Path]]:
    """Iterate over prefixed names and paths of all files."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        # An object may have the name of a directory, and is then listed as if it were in it.
        if path == directory or (path.name == directory.name and not path.exists()):
            continue
        name = f"{prefix}{safe_relative_path(path.name, directory)}"
        if path.is_dir():
            yield from _files(path, f"{name}/")
        else:
            yield name, path


class _Manifest:
    """Names of all files ever written below a directory; nothing else is removed there."""

    def __init__(self, directory: Path, listing: Path):
        self.directory = directory
        self._listing = listing
        self._names = set(json.loads(listing.read_text())) if listing.is_file() else set()

    def add(self, names: Iterable[str]) -> None:
        """Record names; call it before writing the files."""
        self._names.update(names)
        write_atomically(self._listing, json.dumps(sorted(self._names)).encode())

    def refuse_others(self, target: Path, names: Container[str]) -> None:
        """Raise `ArgumentError` if `target` has visible files that are in neither listing."""
        for path in target.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(target).parts)
            name = path.relative_to(self.directory).as_posix()
            require(
                hidden
                or name in names
                or name in self._names
                or (path.is_dir() and not path.is_symlink()),
                f"{path} lies among copies of a bucket and is not one; remove it, or set "
                f"{CACHE} to another directory.",
            )

    def remove_others(self, target: Path, names: Container[str]) -> None:
        """Remove recorded files below `target` that are not in `names`."""
        for name in [name for name in self._names if name not in names]:
            path = safe_join(self.directory, name, self._listing)
            if path.is_relative_to(target):
                path.unlink(missing_ok=True)
                self._names.remove(name)
                with contextlib.suppress(OSError):  # not empty
                    os.removedirs(path.parent)
        self.add(())


def _copy_missing(
    source: epath.Path, target: Path, manifest: _Manifest, files: dict[str, epath.Path]
) -> None:
    """Copy the files, named relative to `manifest.directory`, that are missing or of other size."""
    started = reported = time.monotonic()
    copied = 0

    def copy(name: str) -> int:
        path, partial = missing[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with files[name].open("rb") as read, partial.open("xb") as file:
                shutil.copyfileobj(read, file, 2**22)
                size = file.tell()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return size

    with ThreadPoolExecutor(THREADS) as pool:
        sizes = pool.map(lambda path: path.stat().length, files.values())
        missing = {}
        for name, size in zip(files, sizes, strict=True):
            path = safe_join(manifest.directory, name, source)
            if not (path.is_file() and path.stat().st_size == size):
                missing[name] = path, path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        if not missing:
            return
        partials = (path.relative_to(manifest.directory).as_posix() for _, path in missing.values())
        manifest.add([*missing, *partials])
        for done, size in enumerate(pool.map(copy, missing), start=1):
            copied += size
            if time.monotonic() - reported > REPORT_SECS:
                reported = time.monotonic()
                say(f"copying {source}: {done:,} of {len(missing):,} files")
    secs = format_secs(time.monotonic() - started)
    say(f"copied {copied / 2**20:,.1f} MiB from {source} to {target} in {secs}")
