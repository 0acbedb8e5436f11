"""State dicts in PyTorch files, read without PyTorch. Nothing in a file is ever executed.

Unpickling is confined to what tensors need, and gives descriptions of tensors; the numbers lie
elsewhere in the file and are looked up once all descriptions are there.
"""

import contextlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ict_jax.core.errors import ArgumentError, require

Named = dict[str, np.ndarray]

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
"""Classes of module torch that a file names for the types of its numbers."""

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
    """The tensors of a state dict by name, as arrays that cannot be written to.

    Reads zip files, as torch.save writes since PyTorch 1.6, and the older sequence of pickles.

    Args:
      path: of a file on this machine, usually .pth or .pt.

    Raises:
      ArgumentError: the file is missing, empty, cut off, or holds anything but tensors by name.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be read ({error.strerror}); give the file of the weights."
        ) from error
    require(content != b"", f"{path} is empty; get it again.")
    start = content[: len(ZIP)]
    require(
        start == ZIP or start.startswith(PICKLE),
        f"{path} is no PyTorch file, it begins with {start!r}; get it again, or choose another.",
    )
    with _refusing(path):
        state, numbers = _read_zip(content) if start == ZIP else _read_legacy(content)
        require(
            isinstance(state, dict)
            and all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()),
            f"{path} holds no state dict of tensors; choose the file of the weights alone.",
        )
        return {name: _array(tensor, numbers) for name, tensor in state.items()}


class _Unpickler(pickle.Unpickler):
    """Unpickles descriptions of tensors; any other global is refused before it is looked up."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            # The first is of PyTorch 0.1, in which torchvision's VGG16 was saved. A new function
            # each time: a file could set attributes of one that stays.
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
    """The pickled object, and the numbers of each storage: NAME/data.pkl and NAME/data/KEY."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (main,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            _check_byte_order(archive.read(f"{root}byteorder") == b"little")
        unpickler = _Unpickler(io.BytesIO(archive.read(main)))
        state = unpickler.load()
        numbers = {}
        for storage in unpickler.storages.values():
            entry = archive.getinfo(f"{root}data/{storage.key}")
            require(
                entry.compress_type == zipfile.ZIP_STORED,
                "numbers in it are compressed, as torch.save never does; get the file again.",
            )
            numbers[storage.key] = _numbers(storage, archive.read(entry))
        return state, numbers


def _read_legacy(content: bytes) -> tuple[Any, Named]:
    """The pickled object, and the numbers of each storage, which follow one another."""
    file = io.BytesIO(content)
    if (_Unpickler(file).load(), _Unpickler(file).load()) != LEGACY:
        raise pickle.UnpicklingError("pickled, but not by torch.save")
    _check_byte_order(_Unpickler(file).load()["little_endian"])
    unpickler = _Unpickler(file)
    state = unpickler.load()
    numbers = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        size = int.from_bytes(file.read(8), "little")
        itemsize = np.dtype(STORAGES[storage.kind]).itemsize
        numbers[key] = _numbers(storage, file.read(size * itemsize))
    return state, numbers


def _check_byte_order(little: bool) -> None:
    require(little, "it was written on a big-endian machine; save it again on another.")


def _numbers(storage: _Storage, data: bytes) -> np.ndarray:
    dtype = np.dtype(STORAGES[storage.kind])
    if len(data) != storage.size * dtype.itemsize:
        raise EOFError(f"{len(data)} bytes are there of {storage.size} numbers of {dtype.name}")
    return np.frombuffer(data, dtype)


def _array(tensor: _Tensor, numbers: Named) -> np.ndarray:
    """The numbers that a description speaks of, if all are there."""
    storage, offset, shape, strides = tensor
    array = numbers[storage.key]
    whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    if not whole or len(shape) != len(strides) or math.prod(shape) > array.size:
        raise ValueError(f"no tensor has shape {shape} and strides {strides}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= array.size:
        raise ValueError(f"a tensor ends at {last + 1}, and its storage at {array.size}")
    steps = [step * array.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(array[offset:], shape, steps, writeable=False)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turns whatever a damaged or hostile file makes libraries raise into one sentence."""
    try:
        yield
    except ArgumentError as error:
        text = str(error)
        raise ArgumentError(text if str(path) in text else f"{path} is refused: {text}") from None
    except Exception as error:  # from pickle alone a dozen kinds
        lines = str(error).strip().splitlines() or ["no message"]
        raise ArgumentError(
            f"{path} cannot be read as a PyTorch file ({type(error).__name__}: {lines[0][:150]}); "
            "it is cut off or of another kind: get it again, or choose another."
        ) from error
