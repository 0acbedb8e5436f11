"""Paths on disk or in a bucket (gs://...), and files that are never half-written."""

import contextlib
import functools
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

import jax
from etils import epath

from ict_jax.core.errors import ArgumentError, NotSaved, require

AnyPath = TypeVar("AnyPath", Path, epath.Path)


def is_remote(path: str | os.PathLike) -> bool:
    """Return whether a path is a URL, as in gs://bucket/run."""
    return "://" in os.fspath(path)


def io_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of failed reads and writes, on disk or in a bucket."""
    found: list[type[Exception]] = [OSError]
    # The bucket libraries raise errors of their own, and are imported only where used.
    for module, name in (
        ("gcsfs.retry", "HttpError"),
        ("google.api_core.exceptions", "GoogleAPICallError"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def to_path(text: str | os.PathLike) -> epath.Path:
    """Return a path in a bucket, or an absolute one on disk.

    Raises:
      ArgumentError: the bucket cannot be reached, gcsfs is missing, or it would take the name for
        a pattern.
    """
    if not is_remote(text):
        path = Path(text).absolute()
        # epath reads /s3/x as s3://x.
        return epath.Path(f"/{path}" if path.parts[1:2] in _MOUNTS else path)
    require(
        not re.search(r"[\[\]*?\\]", os.fspath(text)),
        f"{text} is in a bucket and contains one of the characters [ ] * ? \\, which gcsfs treats "
        "as patterns; choose another name.",
    )
    path = epath.Path(text)
    try:
        import fsspec.config

        # A cached listing would miss files written by other processes and by TensorStore.
        fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
        path.exists()
    except ImportError as error:
        raise ArgumentError(
            f"{text} is in a bucket, and gcsfs is not installed ({error}); run pip install "
            "'ict_jax[gcs]'."
        ) from error
    except io_errors() as error:
        raise ArgumentError(
            f"{text} cannot be reached ({error}); check the name of the bucket and log in, as with "
            "gcloud auth application-default login."
        ) from error
    return path


_MOUNTS = [("gs",), ("s3",), ("az",), ("hf",)]


def to_local_path(text: str | os.PathLike, what: str) -> Path:
    """Return a path on disk; raise `ArgumentError`, which names it `what`, for one in a bucket."""
    require(
        not is_remote(text),
        f"{what}={text} is in a bucket, expected a path on this machine; give one, and copy to or "
        "from the bucket with gcloud storage cp -r.",
    )
    return Path(text)


_NOT_LITERAL = re.compile(r"[\[\]*?\\\udc80-\udcff]|\.__lock(/|$)")
"""Matches paths that Orbax would glob, and TensorStore reject or read differently."""


def literal_path(directory: epath.Path) -> epath.Path:
    """Return a name of an existing directory that Orbax and TensorStore take literally.

    It is usually the same one; otherwise that of a descriptor, open until the process ends. Raise
    `ArgumentError` where the operating system has no such names.
    """
    name = os.fspath(directory)
    if is_remote(directory) or not _NOT_LITERAL.search(name):
        return directory
    found = os.stat(name)
    return _open_descriptor(name, found.st_dev, found.st_ino)


@functools.cache
def _open_descriptor(name: str, *_device_and_inode: int) -> epath.Path:
    path = epath.Path(f"/proc/self/fd/{os.open(name, os.O_RDONLY)}")
    require(
        path.is_dir(),
        f"{name!r} contains one of the characters [ ] * ? \\, is not UTF-8 or ends with .__lock, "
        "which only works on Linux; give a directory with another name.",
    )
    return path


def safe_relative_path(name: str, source: object) -> PurePosixPath:
    """Return the relative path of an untrusted name, which comes from `source`.

    Raise `ArgumentError` if the path is empty, absolute, or leads out of its directory.
    """
    path = PurePosixPath(name)
    require(
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name,
        f"{source} names {name!r}, which leads out of its directory and may be malicious; get the "
        "data from elsewhere, or rename that file.",
    )
    return path


def safe_join(directory: Path, name: str, source: object) -> Path:
    """Return the path of an untrusted name below a directory; it need not exist.

    Raise `ArgumentError` if it leads out of the directory, or a part of it is a symbolic link.
    """
    path = directory
    for part in safe_relative_path(name, source).parts:
        path = path / part
        require(not path.is_symlink(), f"{path} is a link, which is not followed; remove it.")
    return path


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def translate_write_errors(path: AnyPath, what: str) -> Iterator[None]:
    """Re-raise write errors as `ArgumentError`; `what` names the path in the message."""
    try:
        yield
    except io_errors() as error:
        place = str(getattr(error, "filename", None) or path)
        reason = _reason(error) + ("" if place == str(path) else f": {place}")
        raise ArgumentError(
            f"{what}={path} cannot be written to ({reason}); give a directory that you may write "
            "to, with free space."
        ) from error


def writable_directory(path: AnyPath, what: str) -> AnyPath:
    """Create a directory if needed; raise `ArgumentError` unless files can be written there."""
    with translate_write_errors(path, what):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_test_{uuid.uuid4().hex}"
        try:
            probe.write_text("not empty, for a full disk takes empty files\n")
        finally:
            probe.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def atomic_path(path: AnyPath) -> Iterator[AnyPath]:
    """Yield a temporary path for a file or directory, which becomes `path` on success.

    Raise `NotSaved` if it cannot be written; nothing is left of it then.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if is_remote(path):
            (temporary.rename if temporary.is_dir() else temporary.replace)(path)
        else:  # replaces an empty directory as well
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(*io_errors()):
            remove = epath.Path(temporary).rmtree if temporary.is_dir() else temporary.unlink
            remove(missing_ok=True)
        if not isinstance(error, io_errors()):
            raise
        raise NotSaved(
            f"{path} cannot be written ({_reason(error)}); make room or fix its directory, and run "
            "the same command again."
        ) from error


def write_atomically(path: AnyPath, content: bytes, what: str | None = None) -> None:
    """Write a file completely or not at all; `what` names a path that the user gave.

    Raises:
      ArgumentError: the user gave a directory, or a path in one that cannot be written to.
      NotSaved: the file cannot be written; nothing is left of it.
    """
    if what is not None:
        require(not path.is_dir(), f"{what}={path} is a directory; give the name of a file.")
        writable_directory(path.parent, what)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def enable_compilation_cache() -> None:
    """Keep compiled programs in ~/.cache/ict_jax, unless JAX is configured otherwise.

    JAX_COMPILATION_CACHE_DIR names another directory, and JAX_ENABLE_COMPILATION_CACHE=false
    switches the cache off.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory()))


def cache_directory(name: str = "") -> Path:
    """Return ~/.cache/ict_jax/NAME, or its place below XDG_CACHE_HOME; it need not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ict_jax" / name
