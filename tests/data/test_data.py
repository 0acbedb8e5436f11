"""Sets, splits, sigma_data and the order of batches."""

import gzip

import numpy as np
import pytest

import ict_jax
from ict_jax.data import Batches, ImageSet, load_data, root_mean_square
from ict_jax.data.images import split_images, split_test


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def test_digits(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert digits.image_shape == (8, 8, 1) and digits.num_classes == 10
    assert sum(len(part.images) for part in parts) == 1797
    for part in parts:
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int32
        assert part.images.min() == 0 and part.images.max() == 255
        assert set(part.labels) == set(range(10))
    again = load_data("digits")
    np.testing.assert_array_equal(again.train.images, digits.train.images)


def test_splits_are_disjoint():
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    parts = split_images(images, np.arange(20), {"train": 9, "validation": 4, "test": 7})
    labels = np.concatenate([part.labels for part in parts.values()])
    assert sorted(labels) == list(range(20)) and list(labels) != list(range(20))
    np.testing.assert_array_equal(parts["test"].images.ravel(), parts["test"].labels)
    with pytest.raises(ict_jax.ArgumentError, match="need 21 images and there are 20"):
        split_images(images, np.arange(20), {"train": 21})


def test_images_of_a_test_split_keep_their_labels():
    validation, test = split_test(numbered(25))
    assert (validation.size, test.size) == (2, 23)
    for part in (validation, test):
        np.testing.assert_array_equal(part.images.ravel(), part.labels)


def test_root_mean_square(digits):
    x = digits.train.images.astype(np.float64) / 127.5 - 1
    assert root_mean_square(digits.train.images) == pytest.approx(np.sqrt((x**2).mean()))


def numbered(size):
    images = np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1)
    return ImageSet(images, np.arange(size, dtype=np.int32))


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (7, 7), (12, 4), (5, 3)])
def test_every_epoch_is_a_new_permutation(size, batch_size):
    batches = Batches(numbered(size), batch_size, seed=1)
    stream = np.concatenate([batches(step)["label"] for step in range(3 * size)])
    epochs = stream[: 3 * size].reshape(3, size)
    for epoch in epochs:
        assert sorted(epoch) == list(range(size))
    assert len({epoch.tobytes() for epoch in epochs}) == 3


def test_a_batch_depends_on_seed_and_step_alone():
    straight = Batches(numbered(50), 8, seed=1)
    expected = [straight(step)["label"] for step in range(40)]
    shuffled = Batches(numbered(50), 8, seed=1)
    for step in (39, 0, 17, 16, 38, 5):
        np.testing.assert_array_equal(shuffled(step)["label"], expected[step])
    other = Batches(numbered(50), 8, seed=2)
    assert not np.array_equal(other(0)["label"], expected[0])


def test_rows_of_processes_make_up_the_batch():
    batches = Batches(numbered(50), 8, seed=1)
    parts = [batches(3, slice(start, start + 4)) for start in (0, 4)]
    for name in ("image", "label"):
        np.testing.assert_array_equal(
            np.concatenate([part[name] for part in parts]), batches(3)[name]
        )


def test_images_and_labels_stay_together():
    batch = Batches(numbered(50), 8, seed=1)(4)
    np.testing.assert_array_equal(batch["image"].ravel(), batch["label"])


def test_errors(tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=r"data.name='nope' is not a known data set"):
        load_data("nope")
    with pytest.raises(ict_jax.ArgumentError, match=r"'tfds:cifar10' was not found prepared"):
        load_data("tfds:cifar10", data_dir=str(tmp_path))
    with pytest.raises(ict_jax.ArgumentError, match=r"batch_size=11 must be between 1 and the 10"):
        Batches(numbered(10), 11, seed=0)


def test_the_other_imagenet_64_is_named(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *values: said.append(text % values))
    for name in ("imagenet_resized/64x64", "cifar10"):
        with pytest.raises(ict_jax.ArgumentError, match="was not found prepared"):
            load_data(f"tfds:{name}", data_dir=str(tmp_path))
    (text,) = said
    assert "'tfds:imagenet_resized/64x64' is the ImageNet of Chrabaszcz" in text
    assert "another ImageNet 64x64, which prepare makes" in text


def idx_files(directory, counts=(20, 10)):
    """Fashion-MNIST's four files with random pixels, in their format."""
    rng = np.random.default_rng(0)
    for split, count in zip(("train", "t10k"), counts, strict=True):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path = directory / f"{split}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes()))
        yield images, labels


def test_fashion_mnist(tmp_path):
    (images, labels), (held_out, _) = idx_files(tmp_path)
    data = load_data("fashion_mnist", data_dir=str(tmp_path))
    assert data.image_shape == (32, 32, 1) and data.num_classes == 10
    np.testing.assert_array_equal(data.train.images[:, 2:-2, 2:-2, 0], images)
    assert data.train.images.sum() == images.sum(dtype=np.int64)  # the frame is black
    np.testing.assert_array_equal(data.train.labels, labels)
    assert (len(data.validation.images), len(data.test.images)) == (1, 9)
    np.testing.assert_array_equal(data.test.images[:, 2:-2, 2:-2, 0], held_out[1:])


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, lambda path, content: path.unlink(), "does not exist; install Debian's package"),
        (IMAGES, lambda path, content: path.write_bytes(b""), "no whole gzip file|no IDX file"),
        (IMAGES, lambda path, content: path.write_bytes(b"html"), "is no whole gzip file"),
        (IMAGES, lambda path, content: path.write_bytes(content[:900]), "is no whole gzip file"),
        (
            IMAGES,
            lambda path, content: path.write_bytes(gzip.compress(gzip.decompress(content)[:-1])),
            "is no IDX file of bytes in 3 dimensions, or is cut off",
        ),
        (
            LABELS,
            lambda path, content: path.write_bytes(
                gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]))
            ),
            "20 images of shape .* and 2 labels",
        ),
        (
            LABELS,
            lambda path, content: path.write_bytes(
                gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 20, *[10] * 20]))
            ),
            "has labels from 0 to 10, expected 0 to 9",
        ),
    ],
)
def test_damaged_fashion_mnist_is_refused(tmp_path, name, change, message):
    list(idx_files(tmp_path))
    change(tmp_path / name, (tmp_path / name).read_bytes())
    with pytest.raises(ict_jax.ArgumentError, match=message) as error:
        load_data("fashion_mnist", data_dir=str(tmp_path))
    assert str(tmp_path) in str(error.value)
