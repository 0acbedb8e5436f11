"""PyTorch files, written without PyTorch: its pickles, one opcode after another."""

import io
import pickle
import struct
import zipfile

import numpy as np

from ict_jax.checkpoints.interop import torch_file

TINY = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.arange(2, dtype=np.float32),
}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value):
    return b"J" + struct.pack("<i", value)


def several(values):
    return b"(" + b"".join(map(whole, values)) + b"t"


EMPTY = b"ccollections\nOrderedDict\n)R"
KINDS = {np.dtype(kind): name for name, kind in torch_file.STORAGES.items()}


def describe(key, array, *, kind=None, size=None, offset=0, shape=None, strides=None):
    kind = kind or f"torch\n{KINDS[array.dtype]}"
    size = array.size if size is None else size
    shape = array.shape if shape is None else shape
    strides = [n // array.itemsize for n in array.strides] if strides is None else strides
    storage = b"(" + text("storage") + b"c" + kind.encode() + b"\n" + text(key) + text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage + whole(size) + b"tQ")
        + (whole(offset) + several(shape) + several(strides) + b"\x89" + EMPTY)
        + b"tR"
    )


def pickled(described, start=EMPTY):
    """A dictionary, and the attribute that PyTorch gives to those of modules."""
    entries = b"".join(text(name) + value for name, value in described.items())
    metadata = b"}" + text("_metadata") + EMPTY + b"sb" if start == EMPTY else b""
    return b"\x80\x02" + start + b"(" + entries + b"u" + metadata + b"."


def memory(array):
    return array.ravel(order="K").tobytes()


def zip_bytes(arrays, main=None, *, method=zipfile.ZIP_STORED, order=b"little", **fields):
    keys = {name: str(index) for index, name in enumerate(arrays)}
    main = main or pickled({n: describe(keys[n], a, **fields) for n, a in arrays.items()})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("name/data.pkl", main, zipfile.ZIP_STORED)
        archive.writestr("name/byteorder", order, zipfile.ZIP_STORED)
        for name, array in arrays.items():
            archive.writestr(f"name/data/{keys[name]}", memory(array))
    return file.getvalue()


def legacy_bytes(arrays, main=None, *, little=True, **fields):
    keys = {name: str(index) for index, name in enumerate(arrays)}
    main = main or pickled({n: describe(keys[n], a, **fields) for n, a in arrays.items()})
    info = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    head = b"".join(pickle.dumps(value, 2) for value in (*torch_file.LEGACY, info))
    numbers = (struct.pack("<q", array.size) + memory(array) for array in arrays.values())
    return head + main + pickle.dumps(list(keys.values()), 2) + b"".join(numbers)
