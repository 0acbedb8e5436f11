"""State dicts in PyTorch files, read without PyTorch. Nothing in a file is ever executed.

Unpickling is confined to what tensors need, and yields descriptions of tensors. Their values are
elsewhere in the file, and are looked up once all descriptions have been read.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ict_jax.checkpoints.interop.arrays import Named
from ict_jax.checkpoints.interop.formats import read_bytes, translate_format_errors
from ict_jax.core.errors import ArgumentError, require

STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
"""Classes of module torch that a file names for the dtypes of its values."""

ZIP, PICKLE = b"PK\x03\x04", b"\x80\x02"
LEGACY = (0x1950A86A20F9469CFC6C, 1001)
"""The first two pickles of a file from before PyTorch 1.6. Source: torch/serialization.py."""


class _Storage(NamedTuple):
    kind: str
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> Named:
    """Read the tensors of a state dict by name, as read-only arrays.

    The file is a zip archive, as torch.save writes since PyTorch 1.6, or the older sequence of
    pickles.

    Raises:
      ArgumentError: the file is missing, empty, cut off, or holds anything but tensors by name.
    """
    content = read_bytes(path)
    start = content[: len(ZIP)]
    require(
        start == ZIP or start.startswith(PICKLE),
        f"{path} is no PyTorch file, it begins with {start!r}; get it again, or choose another.",
    )
    with translate_format_errors(path, "a PyTorch file"):
        try:
            state, values = _read_zip(content) if start == ZIP else _read_legacy(content)
        except ArgumentError as error:
            raise ArgumentError(f"{path} is refused: {error}") from None
        require(
            isinstance(state, dict)
            and all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()),
            f"{path} holds no state dict of tensors; choose the file of the weights alone.",
        )
        return {name: _array(tensor, values) for name, tensor in state.items()}


class _Unpickler(pickle.Unpickler):
    """Unpickler of tensor descriptions; refuses any other global before it is looked up."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            # The first is of PyTorch 0.1, which saved torchvision's VGG16. A new function each
            # time, since a file could set attributes of a lasting one.
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in STORAGES:
            return name
        raise ArgumentError(
            f"the file asks for {module}.{name}, expected tensors and nothing else; get one of "
            "a state dict alone, from a source you trust."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _device, size, *view = pid
        well_formed = what == "storage" and kind in STORAGES and isinstance(key, str)
        if not well_formed or not isinstance(size, int) or any(v is not None for v in view):
            raise pickle.UnpicklingError(f"{pid!r} describes no storage")
        self.storages[key] = _Storage(kind, key, size)
        return self.storages[key]


def _read_zip(content: bytes) -> tuple[Any, Named]:
    """Return the pickled object and each storage's values: NAME/data.pkl and NAME/data/KEY."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (main,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            _check_byte_order(archive.read(f"{root}byteorder") == b"little")
        unpickler = _Unpickler(io.BytesIO(archive.read(main)))
        state = unpickler.load()
        values = {}
        for storage in unpickler.storages.values():
            entry = archive.getinfo(f"{root}data/{storage.key}")
            require(
                entry.compress_type == zipfile.ZIP_STORED,
                "values in it are compressed, as torch.save never does; get the file again.",
            )
            values[storage.key] = _values(storage, archive.read(entry))
        return state, values


def _read_legacy(content: bytes) -> tuple[Any, Named]:
    """Return the pickled object and each storage's values, which follow it in the file."""
    file = io.BytesIO(content)
    if (_Unpickler(file).load(), _Unpickler(file).load()) != LEGACY:
        raise pickle.UnpicklingError("pickled, but not by torch.save")
    _check_byte_order(_Unpickler(file).load()["little_endian"])
    unpickler = _Unpickler(file)
    state = unpickler.load()
    values = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        size = int.from_bytes(file.read(8), "little")
        itemsize = np.dtype(STORAGES[storage.kind]).itemsize
        values[key] = _values(storage, file.read(size * itemsize))
    return state, values


def _check_byte_order(little: bool) -> None:
    require(little, "it was written on a big-endian machine; save it again on another.")


def _values(storage: _Storage, data: bytes) -> np.ndarray:
    dtype = np.dtype(STORAGES[storage.kind])
    if len(data) != storage.size * dtype.itemsize:
        raise EOFError(f"{len(data)} bytes are there of {storage.size} values of {dtype.name}")
    return np.frombuffer(data, dtype)


def _array(tensor: _Tensor, values: Named) -> np.ndarray:
    """Return the values that a tensor description refers to, if all are there."""
    storage, offset, shape, strides = tensor
    array = values[storage.key]
    valid = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    if not valid or len(shape) != len(strides) or math.prod(shape) > array.size:
        raise ValueError(f"no tensor has shape {shape} and strides {strides}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= array.size:
        raise ValueError(f"a tensor ends at {last + 1}, and its storage at {array.size}")
    steps = [step * array.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(array[offset:], shape, steps, writeable=False)
