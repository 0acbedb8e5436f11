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

from ict_jax.checkpoints.interop.arrays import arrays_digest
from ict_jax.core.errors import ArgumentError, Diverged, require

Named = dict[str, np.ndarray]


def read_msgpack(path: Path) -> dict[str, Any]:
    """The tree in a Flax msgpack file.

    Raises:
      ArgumentError: the file is missing, cut off, or something else.
    """
    content = _bytes(path)
    with refusing(path, "a Flax msgpack file"):
        tree: Any = flax.serialization.msgpack_restore(content)
    require(isinstance(tree, dict), f"{path} holds no tree of arrays; choose another file.")
    return tree


def read_safetensors(path: Path) -> tuple[Named, dict[str, str]]:
    """The arrays in a safetensors file, and the texts in its header.

    Raises:
      ArgumentError: the file is missing, cut off, or something else.
    """
    _bytes(path, limit=1)
    with refusing(path, "a safetensors file"):
        with safetensors.safe_open(path, framework="flax") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}
            return arrays, file.metadata() or {}


FINGERPRINT = "ict_jax_sha256"
"""In the header of a safetensors file: the digest of its arrays and of the texts beside them."""


def safetensors_bytes(arrays: Named, header: dict[str, str], beside: Any = None) -> bytes:
    """A safetensors file with a fingerprint, which depends on its content alone.

    Args:
      arrays: by name.
      header: texts for its header.
      beside: JSON that the fingerprint covers too.
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
    """Whether a file that was read has a fingerprint; arguments as of `safetensors_bytes`.

    Raises:
      ArgumentError: it has another one.
    """
    told = {key: text for key, text in header.items() if key != FINGERPRINT}
    require(
        header.get(FINGERPRINT) in (None, _fingerprint(arrays, told, beside)),
        f"{path} is not what was exported: {FINGERPRINT} in its header is of other content; "
        "copy it again, or export it again.",
    )
    return FINGERPRINT in header


def _fingerprint(arrays: Named, header: dict[str, str], beside: Any) -> str:
    return arrays_digest(arrays, json.dumps([header, beside], sort_keys=True))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ArgumentError: the file is missing or something else.
    """
    content = _bytes(path)
    with refusing(path, "a JSON file"):
        value = json.loads(content)
    require(isinstance(value, dict), f"{path} holds no JSON object; choose another file.")
    return value


def _bytes(path: Path, limit: int = -1) -> bytes:
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
def refusing(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a damaged or hostile file makes libraries raise into one sentence.

    Raises:
      ArgumentError: instead of any other exception but `Diverged`.
    """
    try:
        yield
    except (ArgumentError, Diverged):
        raise
    except Exception as error:  # dozens of kinds, from msgpack to NumPy
        lines = str(error).strip().splitlines() or ["no message"]
        raise ArgumentError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {lines[0][:150]}); it is "
            "cut off or of another kind: get it again, or choose another."
        ) from error
