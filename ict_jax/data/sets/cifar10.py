"""CIFAR-10 from its original archive, without TensorFlow."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, ImageSet, split_test

ARCHIVE = "cifar-10-binary.tar.gz"
CHECKSUM = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"  # SHA-256, as in TFDS
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_cifar10(*, data_dir: str | None = None) -> Dataset:
    """Load 50,000 training and 10,000 held-out images uint8 [n, 32, 32, 3] of ten classes.

    Args:
      data_dir: directory of `cifar-10-binary.tar.gz`, 170,052,171 bytes; default: the current one.

    Raises:
      ArgumentError: the archive is missing or is not the published one.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    train, held_out = load_archive(Path(data_dir or "."))
    return Dataset("cifar10", train, *split_test(held_out), len(CLASSES))


def load_archive(directory: Path) -> tuple[ImageSet, ImageSet]:
    """Load the training and test images; raise `ArgumentError` for any other archive."""
    path = directory / ARCHIVE
    require(
        path.is_file(),
        f"{path} does not exist; get https://www.cs.toronto.edu/~kriz/{ARCHIVE} (170,052,171 "
        "bytes), and give its directory (config.data.data_dir, or --source of prepare).",
    )
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be read ({error.strerror}); make it readable."
        ) from error
    require(
        found == CHECKSUM,
        f"{path} has the SHA-256 {found[:12]}..., expected {CHECKSUM[:12]}...; it is cut off or "
        "another file: get it again.",
    )
    try:
        with tarfile.open(path, "r:gz") as archive:
            files = {Path(member.name).name: archive.extractfile(member) for member in archive}
            train, test = (
                b"".join(files[name].read() for name in names)  # pyright: ignore[reportOptionalMemberAccess]
                for names in (TRAIN, TEST)
            )
    except (tarfile.TarError, OSError, EOFError, KeyError, AttributeError) as error:
        raise ArgumentError(
            f"{path} is no archive of CIFAR-10 ({error!r}); get it again."
        ) from error
    return _decode(train), _decode(test)


def _decode(content: bytes) -> ImageSet:
    """Decode records: one byte of class, then the planes red, green, blue."""
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ImageSet(images, records[:, 0].astype(np.int32))
