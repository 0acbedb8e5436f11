"""Files of weights to arrays by name. Nothing in a file is ever executed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np
import safetensors
import safetensors.flax

from ict_jax.core.errors import ArgumentError, require

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
      ArgumentError: instead of any other exception.
    """
    try:
        yield
    except ArgumentError:
        raise
    except Exception as error:  # dozens of kinds, from msgpack to NumPy
        lines = str(error).strip().splitlines() or ["no message"]
        raise ArgumentError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {lines[0][:150]}); it is "
            "cut off or of another kind: get it again, or choose another."
        ) from error
