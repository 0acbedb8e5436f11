"""Conversion between another project's arrays by name and our parameter tree."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ict_jax.checkpoints.interop.name_maps import Slice
from ict_jax.core.errors import ArgumentError, Diverged, require
from ict_jax.training.state import Params

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]
Named = dict[str, np.ndarray]


def import_arrays(arrays: Arrays, layout: list[Slice], what: str) -> Params:
    """Convert all the arrays of another project, `what`, to our parameter tree in float32.

    Raises:
      ArgumentError: names are missing or left over, or a shape or dtype differs.
      Diverged: a value is NaN or infinite.
    """
    check_names(set(arrays), {part.theirs for part in layout}, what)
    parts: dict[tuple[str, ...], list[np.ndarray]] = {}
    for part in layout:
        parts.setdefault(part.path, []).append(_import_slice(arrays[part.theirs], part, what))
    stacked = {part.path for part in layout if part.index is not None}
    tree: dict[str, Any] = {}
    for path, slices in parts.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = np.stack(slices) if path in stacked else slices[0]
    return tree


def export_arrays(params: Params, layout: list[Slice]) -> Named:
    """Convert our parameters to another project's arrays; the inverse of `import_arrays`."""
    slices: dict[str, list[np.ndarray]] = {}
    for part in sorted(layout, key=lambda part: part.third or 0):
        value: Any = params
        for key in part.path:
            value = value[key]
        value = np.asarray(value if part.index is None else value[part.index])
        slices.setdefault(part.theirs, []).append(value.transpose(np.argsort(part.axes)))
    return {name: np.concatenate(parts) for name, parts in slices.items()}


def _import_slice(array: np.ndarray, part: Slice, what: str) -> np.ndarray:
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
    with np.errstate(over="ignore"):  # values that overflow are refused below
        array = array.astype(np.float32)
    check_finite({part.theirs: array}, what)
    return array


def check_finite(arrays: Arrays, what: str) -> None:
    """Raise `Diverged` if a value is NaN or infinite; `what` names the origin of the arrays."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise Diverged(
                f"{name} in {what} has values that are NaN or infinite; choose other weights, or "
                "get these again."
            )


def check_names(found: set[str], expected: set[str], what: str) -> None:
    """Raise `ArgumentError` unless the names of `what` are the expected ones."""
    missing, extra = sorted(expected - found), sorted(found - expected)
    require(
        not missing and not extra,
        f"{what} is of another network: {len(missing)} arrays are missing, first {missing[:3]}, "
        f"and {len(extra)} are left over, first {extra[:3]}; choose another file, or the network "
        "that it was made with.",
    )


def check_shapes(arrays: Arrays, shapes: Shapes, what: str) -> None:
    """Raise `ArgumentError` unless the arrays are float32 of exactly these names and shapes."""
    check_names(set(arrays), set(shapes), what)
    for name, shape in shapes.items():
        array = arrays[name]
        require(
            array.shape == shape and array.dtype == np.float32,
            f"{name} in {what} has shape {array.shape} and type {array.dtype}, expected {shape} "
            "and float32; choose another file.",
        )


def check_arrays(arrays: Arrays, shapes: Shapes, what: str) -> Named:
    """Return the arrays, contiguous, if they pass `check_shapes` and are finite."""
    check_shapes(arrays, shapes, what)
    for name, array in arrays.items():
        require(
            bool(np.isfinite(array).all()),
            f"{name} in {what} has values that are NaN or infinite; get the file again.",
        )
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def file_digest(path: Path, advice: str) -> str:
    """Return the SHA-256 of a file; raise `ArgumentError`, which ends with the advice."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror}); {advice}.") from error


def arrays_digest(arrays: Named, text: str = "") -> str:
    """Return the SHA-256 of the names, shapes, dtypes and values of arrays, and of a text."""
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].shape} {arrays[name].dtype} ".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()
