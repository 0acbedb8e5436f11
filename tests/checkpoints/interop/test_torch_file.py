"""Reading PyTorch files without PyTorch: both formats, and what is refused."""

import pickle
import zipfile

import numpy as np
import pytest

import ict_jax
from ict_jax.checkpoints.interop import torch_file
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from tests.torch_files import EMPTY, TINY, describe, legacy_bytes, pickled, text, zip_bytes

FORMATS = pytest.mark.parametrize("form", [zip_bytes, legacy_bytes])


@FORMATS
def test_torch_files_are_read(form, tmp_path):
    arrays = TINY | {
        "columns_first": np.arange(6, dtype=np.float64).reshape(2, 3).T,
        "count": np.array(7),
        "half": np.array([1.5, -2], torch_file.STORAGES["BFloat16Storage"]),
        "none": np.zeros((0, 3), np.uint8),
    }
    path = tmp_path / "a.pth"
    path.write_bytes(form(arrays))
    read = read_torch_file(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    path.write_bytes(form({"a": np.arange(9, dtype=np.int64)}, offset=2, shape=(3,), strides=(2,)))
    np.testing.assert_array_equal(read_torch_file(path)["a"], [2, 4, 6])


class Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@FORMATS
def test_parameters_and_tensors_of_the_first_versions_are_read(form, tmp_path):
    """`_rebuild_tensor` has four arguments; `_rebuild_parameter` has a tensor as its first."""
    tensor = describe("0", TINY["a.bias"])
    old = tensor.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor")
    old = old.replace(b"\x89" + EMPTY + b"tR", b"tR")
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x88" + EMPTY + b"tR"
    for number, described in enumerate((old, parameter)):
        path = tmp_path / str(number)
        path.write_bytes(form({"0": TINY["a.bias"]}, pickled({"x": described})))
        np.testing.assert_array_equal(read_torch_file(path)["x"], TINY["a.bias"])


@FORMATS
def test_nothing_in_a_torch_file_is_executed(form, tmp_path):
    touched, path = tmp_path / "touched", tmp_path / "a.pth"
    bomb = pickle.dumps({"a": Touches(touched)}, 2)
    pickle.loads(bomb)["a"].close()
    assert touched.exists()  # the test can tell
    touched.unlink()
    path.write_bytes(form({}, bomb))
    with pytest.raises(
        ict_jax.ArgumentError, match=r"a.pth is refused: the file asks for io.open, expected tens"
    ):
        read_torch_file(path)
    path.write_bytes(bomb)
    with pytest.raises(ict_jax.ArgumentError, match=r"the file asks for io.open"):
        read_torch_file(path)
    for module, name in [("builtins", "eval"), ("os", "system"), ("torch", "load")]:
        call = f"c{module}\n{name}\n(".encode() + text("1") + b"tR"
        path.write_bytes(form({}, pickled({"a": call})))
        with pytest.raises(ict_jax.ArgumentError, match=rf"asks for {module}\.{name}, expected"):
            read_torch_file(path)
    assert not touched.exists()


@FORMATS
def test_torch_files_cut_off_are_refused(form, tmp_path):
    path = tmp_path / "a.pth"
    content = form(TINY)
    for size in (0, 1, 5, 40, len(content) // 2, len(content) - 30, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ict_jax.ArgumentError, match=r"is empty|cut off or of|no PyTorch file"):
            read_torch_file(path)


ONE = {"a": np.arange(6, dtype=np.float32)}


@FORMATS
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (7,)}, r"no tensor has shape \(7,\)"),
        ({"offset": 1}, "a tensor ends at 7, and its storage at 6"),
        ({"shape": (2, 3), "strides": (4, 1)}, "a tensor ends at 7"),
        ({"shape": (2,), "strides": (-1,)}, "no tensor has shape"),
        ({"offset": -1}, "no tensor has shape"),
        ({"shape": (2, 3)}, "no tensor has shape"),
        ({"kind": "torch\nQInt8Storage"}, "the file asks for torch.QInt8Storage, expected"),
        ({"kind": "collections\nOrderedDict"}, "describes no storage"),
        ({"size": 7}, "cut off or of another kind"),
        ({"size": -1}, "cut off or of another kind"),
    ],
)
def test_impossible_tensors_are_refused(form, fields, message, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(form(ONE, **fields))
    with pytest.raises(ict_jax.ArgumentError, match=message):
        read_torch_file(path)


NESTED = {"model": pickled({})[2:-1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a.pth cannot be read \(No such file or directory\)"),
        (b"", "a.pth is empty; get it again"),
        (b"\x89PNG and so on", "is no PyTorch file, it begins with"),
        (b"<html>", "is no PyTorch file"),
        (zip_bytes({}, pickled(NESTED)), "holds no state dict of tensors"),
        (legacy_bytes({}, pickled(NESTED)), "holds no state dict of tensors"),
        (zip_bytes({}, pickle.dumps([1, 2], 2)), "holds no state dict of tensors"),
        (zip_bytes(ONE, method=zipfile.ZIP_DEFLATED), "values in it are compressed"),
        (zip_bytes(ONE, order=b"big"), "was written on a big-endian machine"),
        (legacy_bytes(ONE, little=False), "was written on a big-endian machine"),
        (pickle.dumps({"a": 1}, 2) * 2, "pickled, but not by torch.save"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "a.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ict_jax.ArgumentError, match=message):
        read_torch_file(path)


def test_a_changed_bit_of_a_zip_file_is_found(tmp_path):
    """By the checksums of its entries; the older format has none."""
    whole, path, refused = zip_bytes(TINY), tmp_path / "a.pth", 0
    for place in range(0, len(whole), 3):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        try:
            read = read_torch_file(path)
        except ict_jax.ArgumentError:
            refused += 1
            continue
        assert read.keys() == TINY.keys()
        for name, array in TINY.items():
            np.testing.assert_array_equal(read[name], array)
    assert refused > 50
