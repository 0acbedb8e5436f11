"""Arrays by name of another project to our tree of parameters, and back."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ict_jax.checkpoints.interop.name_maps import Slice
from ict_jax.checkpoints.interop.torch_file import Named
from ict_jax.core.errors import ArgumentError, Diverged, require
from ict_jax.training.state import Params

Shapes = Mapping[str, tuple[int, ...]]

Arrays = Mapping[str, np.ndarray]


def import_arrays(arrays: Arrays, layout: list[Slice], what: str) -> Params:
    """Our tree of parameters, float32, from all the arrays of another project.

    Args:
      arrays: by their names.
      layout: of the network that they belong to.
      what: names their origin in messages.

    Raises:
      ArgumentError: names are missing or left over, or a shape or type differs.
      Diverged: a number is NaN or infinite.
    """
    check_names(set(arrays), {part.theirs for part in layout}, what)
    parts: dict[tuple[str, ...], list[np.ndarray]] = {}
    for part in layout:
        parts.setdefault(part.path, []).append(_take(arrays[part.theirs], part, what))
    stacked = {part.path for part in layout if part.index is not None}
    tree: dict[str, Any] = {}
    for path, pieces in parts.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = np.stack(pieces) if path in stacked else pieces[0]
    return tree


def export_arrays(params: Params, layout: list[Slice]) -> dict[str, np.ndarray]:
    """The arrays of another project from our parameters; the inverse of `import_arrays`."""
    pieces: dict[str, list[np.ndarray]] = {}
    for part in sorted(layout, key=lambda part: part.third or 0):
        value: Any = params
        for key in part.path:
            value = value[key]
        value = np.asarray(value if part.index is None else value[part.index])
        pieces.setdefault(part.theirs, []).append(value.transpose(np.argsort(part.axes)))
    return {name: np.concatenate(parts) for name, parts in pieces.items()}


def _take(array: np.ndarray, part: Slice, what: str) -> np.ndarray:
    """Our part of one of their arrays."""
    array, shape = np.asarray(array), np.shape(array)
    if part.third is not None and array.ndim and array.shape[0] % 3 == 0:
        array = np.split(array, 3)[part.third]
    # A 1x1 convolution of theirs may be a dense layer of ours.
    while array.ndim > len(part.axes) and array.shape[-1] == 1:
        array = array[..., 0]
    array = array.transpose(part.axes) if array.ndim == len(part.axes) else array
    require(
        array.shape == part.shape and jnp.issubdtype(array.dtype, jnp.floating),
        f"{part.theirs} in {what} has shape {shape} and type {array.dtype}, expected floats for "
        f"{part.shape}; choose the network that it was made with.",
    )
    with np.errstate(over="ignore"):  # what is infinite then is refused
        array = array.astype(np.float32)
    check_finite({part.theirs: array}, what)
    return array


def check_finite(arrays: Arrays, what: str) -> None:
    """Raises `Diverged` if a number is NaN or infinite; `what` names the arrays' origin."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise Diverged(
                f"{name} in {what} has values that are NaN or infinite; choose other weights, or "
                "get these again."
            )


def check_names(got: set[str], expected: set[str], what: str) -> None:
    """Raises `ArgumentError` unless the two are equal."""
    missing, extra = sorted(expected - got), sorted(got - expected)
    require(
        not missing and not extra,
        f"{what} is not of the expected network: {len(missing)} arrays are missing, first "
        f"{missing[:3]}, and {len(extra)} are left over, first {extra[:3]}; choose the network "
        "that it was made with.",
    )


def check_arrays(arrays: Named, shapes: Shapes, what: str) -> Named:
    """The arrays, contiguous, if they are finite float32 of exactly these names and shapes.

    Args:
      arrays: by name.
      shapes: what is expected.
      what: names their origin in messages.

    Raises:
      ArgumentError: an array is missing, left over, of another shape or type, or not finite.
    """
    missing, extra = sorted(set(shapes) - set(arrays)), sorted(set(arrays) - set(shapes))
    require(
        not missing and not extra,
        f"{what} is of another network: {len(missing)} arrays are missing, first {missing[:3]}, "
        f"and {len(extra)} are left over, first {extra[:3]}; choose another file.",
    )
    for name, shape in shapes.items():
        array = arrays[name]
        require(
            array.shape == shape and array.dtype == np.float32,
            f"{name} in {what} has shape {array.shape} and type {array.dtype}, expected {shape} "
            "and float32; choose another file.",
        )
        require(
            bool(np.isfinite(array).all()),
            f"{name} in {what} has values that are NaN or infinite; get the file again.",
        )
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def file_digest(path: Path, advice: str) -> str:
    """SHA-256 of a file.

    Raises:
      ArgumentError: it cannot be read; `advice` ends the message.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror}); {advice}.") from error


def arrays_digest(arrays: Named, told: str = "") -> str:
    """SHA-256 of names, shapes, types and numbers of arrays, and of a text that belongs to them."""
    total = hashlib.sha256(told.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].shape} {arrays[name].dtype} ".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()
