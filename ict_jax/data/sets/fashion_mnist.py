"""Fashion-MNIST from its original files: 70,000 articles of clothing, grey, ten classes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, ImageSet, split_test

DIRECTORY = "/usr/share/datasets/fashion-mnist"  # of Debian's package dataset-fashion-mnist
UINT8 = 8  # code of the data type in the header of an IDX file


def load_fashion_mnist(*, data_dir: str | None = None) -> Dataset:
    """Load images uint8 [n, 32, 32, 1]: 28x28 padded with two black pixels on each side.

    Args:
      data_dir: directory of the files `{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`; default:
        that of Debian's package.

    Raises:
      ArgumentError: a file is missing or damaged.

    Source: H. Xiao, K. Rasul and R. Vollgraf, 2017, MIT licence.
    """
    directory = Path(data_dir or DIRECTORY)
    held_out = split_test(_read_split(directory, "t10k"))
    return Dataset("fashion_mnist", _read_split(directory, "train"), *held_out, num_classes=10)


def _read_split(directory: Path, split: str) -> ImageSet:
    images = _read_idx(directory / f"{split}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read_idx(directory / f"{split}-labels-idx1-ubyte.gz", dimensions=1)
    require(
        0 < len(images) == len(labels) and images.shape[1:] == (28, 28),
        f"{directory} has {len(images)} images of shape {images.shape[1:]} and {len(labels)} "
        f"labels in its {split} files, expected as many labels as images of (28, 28); get the "
        "files again.",
    )
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return ImageSet(padded[..., None], labels.astype(np.int32))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a gzipped IDX file: bytes 0, 0, type, dimensions; sizes (big endian uint32); data."""
    require(
        path.is_file(),
        f"{path} does not exist; install Debian's package dataset-fashion-mnist, or put the four "
        "files of github.com/zalandoresearch/fashion-mnist in a directory and give it as "
        "config.data.data_dir.",
    )
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ArgumentError(f"{path} is no whole gzip file ({error}); get it again.") from error
    start = 4 + 4 * dimensions
    sizes = tuple(int.from_bytes(content[i : i + 4]) for i in range(4, start, 4))
    require(
        content[:4] == bytes([0, 0, UINT8, dimensions])
        and len(content) == start + math.prod(sizes),
        f"{path} is no IDX file of bytes in {dimensions} dimensions, or is cut off; get it again.",
    )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
