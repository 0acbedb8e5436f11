"""Files of weights to arrays by name, and back. Nothing in a file is ever executed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np
import safetensors
import safetensors.flax
import safetensors.numpy

from ict_jax.checkpoints.interop.arrays import Named, arrays_digest
from ict_jax.core.errors import ArgumentError, Diverged, require


def read_msgpack(path: Path) -> dict[str, Any]:
    """Read the tree in a Flax msgpack file; raise `ArgumentError` if it is anything else."""
    content = read_bytes(path)
    with translate_format_errors(path, "a Flax msgpack file"):
        tree: Any = flax.serialization.msgpack_restore(content)
    require(isinstance(tree, dict), f"{path} holds no tree of arrays; choose another file.")
    return tree


def read_safetensors(path: Path) -> tuple[Named, dict[str, str]]:
    """Read a safetensors file's arrays and header; raise `ArgumentError` if it is none."""
    read_bytes(path, limit=1)
    with translate_format_errors(path, "a safetensors file"):
        with safetensors.safe_open(path, framework="flax") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}
            return arrays, file.metadata() or {}


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; raise `ArgumentError` if it is anything else."""
    content = read_bytes(path)
    with translate_format_errors(path, "a JSON file"):
        value = json.loads(content)
    require(isinstance(value, dict), f"{path} holds no JSON object; choose another file.")
    return value


FINGERPRINT = "ict_jax_sha256"
"""Key in a safetensors header: digest of the arrays and of all texts that belong to them."""


def safetensors_bytes(arrays: Named, header: dict[str, str], beside: Any = None) -> bytes:
    """Return a safetensors file with a fingerprint, which also covers the JSON value `beside`.

    The bytes are a deterministic function of the arguments.
    """
    header = header | {FINGERPRINT: _fingerprint(arrays, header, beside)}
    content = memoryview(safetensors.numpy.save(arrays, header))
    start = 8 + int.from_bytes(content[:8], "little")
    # The library writes the texts in an order that differs from run to run.
    ordered = json.dumps(json.loads(bytes(content[8:start])), sort_keys=True).encode()
    ordered += b" " * (-len(ordered) % 8)
    return b"".join([len(ordered).to_bytes(8, "little"), ordered, content[start:]])


def check_fingerprint(
    path: Path, arrays: Named, header: dict[str, str], beside: Any = None
) -> bool:
    """Return whether a file has a fingerprint; raise `ArgumentError` if it is of other content."""
    texts = {key: text for key, text in header.items() if key != FINGERPRINT}
    require(
        header.get(FINGERPRINT) in (None, _fingerprint(arrays, texts, beside)),
        f"{path} is not what was exported: {FINGERPRINT} in its header is of other content; "
        "copy it again, or export it again.",
    )
    return FINGERPRINT in header


def _fingerprint(arrays: Named, header: dict[str, str], beside: Any) -> str:
    return arrays_digest(arrays, json.dumps([header, beside], sort_keys=True))


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """Read a file up to a limit; raise `ArgumentError` if it is missing or empty."""
    try:
        with path.open("rb") as file:
            content = file.read(limit)
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be read ({error.strerror}); give the file or directory of the weights."
        ) from error
    require(content != b"", f"{path} is empty; get it again.")
    return content


@contextlib.contextmanager
def translate_format_errors(path: Path, what: str) -> Iterator[None]:
    """Re-raise as `ArgumentError` whatever a damaged or hostile file makes libraries raise."""
    try:
        yield
    except (ArgumentError, Diverged):
        raise
    except Exception as error:  # dozens of kinds, from msgpack, pickle and NumPy
        lines = str(error).strip().splitlines() or ["no message"]
        raise ArgumentError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {lines[0][:150]}); it is "
            "cut off or of another kind: get it again, or choose another."
        ) from error
