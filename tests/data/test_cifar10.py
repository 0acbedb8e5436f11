"""CIFAR-10 from an archive made in the original layout."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

import ict_jax
from ict_jax.data import load_data
from ict_jax.data.sets import cifar10

COUNT = 20


def archive(directory, names=(*cifar10.TRAIN, *cifar10.TEST), cut=0):
    """Writes the archive; returns its images and labels as they should be read."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(names) * COUNT, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, len(images), np.uint8)
    path = directory / cifar10.ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(names):
            rows = range(number * COUNT, (number + 1) * COUNT)
            records = b"".join(
                bytes([labels[row]]) + images[row].transpose(2, 0, 1).tobytes() for row in rows
            )
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(records)
            tar.addfile(member, io.BytesIO(records))
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    return images, labels, hashlib.sha256(path.read_bytes()).hexdigest()


def test_images_and_labels_come_in_order(tmp_path, monkeypatch):
    images, labels, checksum = archive(tmp_path)
    monkeypatch.setattr(cifar10, "CHECKSUM", checksum)
    data = load_data("cifar10", data_dir=str(tmp_path))
    assert data.image_shape == (32, 32, 3) and data.num_classes == 10
    np.testing.assert_array_equal(data.train.images, images[: 5 * COUNT])
    np.testing.assert_array_equal(data.train.labels, labels[: 5 * COUNT])
    held_out = np.concatenate([data.validation.images, data.test.images])
    np.testing.assert_array_equal(held_out, images[5 * COUNT :])
    assert (len(data.validation.images), len(data.test.images)) == (2, 18)


def test_another_archive_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ict_jax.ArgumentError, match=r"does not exist; get https.*data_dir"):
        load_data("cifar10", data_dir=str(tmp_path))
    archive(tmp_path)
    with pytest.raises(ict_jax.ArgumentError, match=r"SHA-256 .* expected c4a38c50a1bc\.\.\."):
        load_data("cifar10", data_dir=str(tmp_path))
    for options in ({"names": cifar10.TRAIN}, {"cut": 1000}):
        *_, checksum = archive(tmp_path, **options)
        monkeypatch.setattr(cifar10, "CHECKSUM", checksum)
        with pytest.raises(ict_jax.ArgumentError, match="is no archive of CIFAR-10"):
            load_data("cifar10", data_dir=str(tmp_path))
