"""Directories that are written to, on a disk or in a bucket (gs://...)."""

import contextlib
import errno
import fcntl
import functools
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TextIO, TypeVar

import jax
from etils import epath

from ict_jax.core.errors import ArgumentError, NotSaved, require

AnyPath = TypeVar("AnyPath", Path, epath.Path)


def to_path(text: str | os.PathLike) -> epath.Path:
    """A path on a disk, made absolute, or in a bucket.

    Raises:
      ArgumentError: what reads buckets is not installed, or would take the name for a pattern.
    """
    if not is_remote(text):
        path = Path(text).absolute()
        # To epath /s3/x is s3://x.
        return epath.Path(f"/{path}" if path.parts[1:2] in _MOUNTS else path)
    require(
        not re.search(r"[\[\]*?\\]", os.fspath(text)),
        f"{text} is in a bucket and has one of the characters [ ] * ? \\, which what reads buckets "
        "takes for patterns; give it another name.",
    )
    path = epath.Path(text)
    try:
        import fsspec.config

        # What other processes and TensorStore write is to be seen.
        fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
        path.exists()
    except ImportError as error:
        raise ArgumentError(
            f"{text} is in a bucket, and what reads buckets is not installed ({error}); run pip "
            "install 'ict_jax[gcs]'."
        ) from error
    except failures() as error:
        raise ArgumentError(
            f"{text} cannot be reached ({error}); check the name of the bucket and log in, as with "
            "gcloud auth application-default login."
        ) from error
    return path


_MOUNTS = [("gs",), ("s3",), ("az",), ("hf",)]
_NOT_LITERAL = re.compile(r"[\[\]*?\\\udc80-\udcff]|\.__lock(/|$)")
"""In a path: Orbax globs it, TensorStore reads \\ as / and refuses the others."""


def literal(directory: epath.Path) -> epath.Path:
    """A name of an existing directory that Orbax and TensorStore take as it stands.

    Most often its own; otherwise that of its descriptor, held until the process ends.

    Raises:
      ArgumentError: the system has no such names.
    """
    name = os.fspath(directory)
    if is_remote(directory) or not _NOT_LITERAL.search(name):
        return directory
    found = os.stat(name)
    return _descriptor(name, found.st_dev, found.st_ino)


@functools.cache
def _descriptor(name: str, *_place: int) -> epath.Path:
    path = epath.Path(f"/proc/self/fd/{os.open(name, os.O_RDONLY)}")
    require(
        path.is_dir(),
        f"{name!r} has one of the characters [ ] * ? \\, is not UTF-8 or ends with .__lock, which "
        "works on Linux alone; give a directory with another name.",
    )
    return path


def to_local_path(text: str | os.PathLike, what: str) -> Path:
    """A path on a disk.

    Raises:
      ArgumentError: it is in a bucket; `what` names it in the message.
    """
    if is_remote(text):
        raise ArgumentError(
            f"{what}={text} is in a bucket, expected a path on this machine; give one, and copy "
            "to or from the bucket by gcloud storage cp -r."
        )
    return Path(text)


def failures() -> tuple[type[Exception], ...]:
    """What failed reading and writing raises, on a disk or in a bucket."""
    found: list[type[Exception]] = [OSError]
    # What reads buckets has errors of its own, and is there only where it is used.
    for module, name in (
        ("gcsfs.retry", "HttpError"),
        ("google.api_core.exceptions", "GoogleAPICallError"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL, as in gs://bucket/run."""
    return "://" in os.fspath(path)


def contained(name: str, where: object) -> PurePosixPath:
    """A relative path, as a bucket, an archive or a set names what it holds.

    Args:
      name: chosen by whoever made that.
      where: what it stands in, for the message.

    Raises:
      ArgumentError: it leads out of the directory that it is relative to, or names nothing in it.
    """
    path = PurePosixPath(name)
    require(
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name,
        f"{where} names {name!r}, which leads out of its directory; whoever made it may mean harm: "
        "get it from elsewhere, or rename that.",
    )
    return path


def inside(directory: Path, name: str, where: object) -> Path:
    """The place below a directory of what has a name that others chose; it need not exist.

    Raises:
      ArgumentError: the name leads out of the directory, or it or a part of it is a link there.
    """
    path = directory
    for part in contained(name, where).parts:
        path = path / part
        require(not path.is_symlink(), f"{path} is a link, which is not followed; remove it.")
    return path


@contextlib.contextmanager
def writing(path: AnyPath, what: str) -> Iterator[None]:
    """What fails in it, to write or to make a file, is told in one sentence.

    Raises:
      ArgumentError: it failed; `what` names the path in the message.
    """
    try:
        yield
    except failures() as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        where = str(getattr(error, "filename", None) or path)
        reason += "" if where == str(path) else f": {where}"
        raise ArgumentError(
            f"{what}={path} cannot be written to ({reason}); give a directory of your own, with "
            "room in it."
        ) from error


def writable_directory(path: AnyPath, what: str) -> AnyPath:
    """Makes a directory and checks that files can be written there.

    Raises:
      ArgumentError: it cannot be; `what` names it in the message.
    """
    with writing(path, what):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_test_{uuid.uuid4().hex}"
        try:
            probe.write_text("not empty, for a full disk takes empty files\n")
        finally:
            probe.unlink(missing_ok=True)
    return path


def write_at_once(path: AnyPath, content: bytes) -> None:
    """Writes a file beside its place and moves it there, so that it never is half-written.

    Raises:
      NotSaved: it cannot be written; nothing is left of it.
    """
    with made_at_once(path) as beside:
        beside.write_bytes(content)


@contextlib.contextmanager
def made_at_once(path: AnyPath) -> Iterator[AnyPath]:
    """Yields a path beside `path` for a file or directory, which is moved there when it is whole.

    Raises:
      NotSaved: it cannot be written; nothing is left of it.
    """
    beside = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if is_remote(path):
            (beside.rename if beside.is_dir() else beside.replace)(path)
        else:  # of a directory too, where an empty one is
            os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(*failures()):
            remove = epath.Path(beside).rmtree if beside.is_dir() else beside.unlink
            remove(missing_ok=True)
        if not isinstance(error, failures()):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotSaved(
            f"{path} cannot be written ({reason}); make room or mend its directory, and run the "
            "same command again."
        ) from error


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked_directory(path: AnyPath, what: str) -> Iterator[None]:
    """Makes a directory and holds a lock on it, which the system frees if the process dies.

    There are no locks in a bucket, nor on some shared disks, where this is said: nothing keeps two
    jobs from writing to the same place there.

    Raises:
      ArgumentError: it cannot be written to, or another process holds the lock.
    """
    writable_directory(path, what)
    if is_remote(path):
        yield
        return
    with contextlib.ExitStack() as opened:
        with writing(path / ".lock", f"the lock of {what}"):
            file = opened.enter_context(Path(path / ".lock").open("a+"))
            _lock(file, path, what)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _lock(file: TextIO, path: AnyPath, what: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise ArgumentError(
            f"{what}={path} is in use by the run with process id {file.read().strip()}; wait "
            "until it ends, or give another directory."
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        sys.stderr.write(
            f"WARNING: the disk of {what}={path} has no locks ({error.strerror}): see to it that "
            "no other run uses this directory\n"
        )


def keep_compiled() -> None:
    """Keeps compiled programs on disk from run to run, unless JAX is told where or not to.

    In ~/.cache/ict_jax; JAX_COMPILATION_CACHE_DIR names another directory, and
    JAX_ENABLE_COMPILATION_CACHE=false switches it off.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory()))


def cache_directory(name: str = "") -> Path:
    """~/.cache/ict_jax/NAME, or below XDG_CACHE_HOME; it need not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ict_jax" / name


def write_whole(path: epath.Path, content: bytes, what: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      ArgumentError: it is a directory, or in one that cannot be written to; `what` names it.
      NotSaved: it cannot be written.
    """
    require(not path.is_dir(), f"{what}={path} is a directory; give the name of a file.")
    writable_directory(path.parent, what)
    write_at_once(path, content)
