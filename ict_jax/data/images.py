"""Sets of labelled images, in memory or on disk."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int32, UInt8

from ict_jax.core.errors import require, require_uint8


class Examples(Protocol):
    """Labelled images by index."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        ...

    def read(self, index: np.ndarray) -> "ImageSet":
        """The examples at integer indices [m], in that order."""
        ...


class ImageSet(NamedTuple):
    """Images uint8 [n, h, w, c] and labels int32 [n] in memory."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self.images.shape[1:]

    def read(self, index: np.ndarray) -> "ImageSet":
        """The examples at integer indices [m], in that order."""
        return ImageSet(self.images[index], self.labels[index])


def check_labels(labels: Sequence[int] | np.ndarray, num_classes: int, name: str) -> None:
    """Raises `ArgumentError` unless all are classes of a set; beyond them a network gives NaN."""
    least, largest = (int(edge(labels, initial=0)) for edge in (np.min, np.max))
    require(
        0 <= least and largest < num_classes,
        f"{name} has labels from {least} to {largest}, expected 0 to {num_classes - 1}, its "
        f"{num_classes} classes; mend the labels, or get the set again.",
    )


class Dataset(NamedTuple):
    """A data set in its three disjoint splits, of which the last two are in memory."""

    name: str
    train: Examples
    validation: ImageSet
    test: ImageSet
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self.train.image_shape


VALIDATION_PERCENT = 10
"""Share of a published test split on which choices are made; the rest is scored."""


def split_test(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """The validation and test parts of a published test split, in its order."""
    cut = data.size * VALIDATION_PERCENT // 100
    return (
        ImageSet(data.images[:cut], data.labels[:cut]),
        ImageSet(data.images[cut:], data.labels[cut:]),
    )


def split_images(images: np.ndarray, labels: np.ndarray, sizes: dict[str, int]) -> dict:
    """Cuts a set into splits of the given sizes after a fixed shuffle (NumPy seed 0)."""
    total = sum(sizes.values())
    require(
        total <= len(images),
        f"the splits {sizes} need {total} images and there are {len(images)}; make them smaller.",
    )
    order = np.random.default_rng(0).permutation(len(images))
    parts, start = {}, 0
    for split, size in sizes.items():
        index = order[start : start + size]
        parts[split] = ImageSet(images[index], labels[index])
        start += size
    return parts


MEASURED_NUMBERS = 200_000_000
"""Numbers in the images from which statistics of a training set are taken, at most."""


def measured_part(data: Examples) -> ImageSet:
    """All of a set, or as many of its images at random (NumPy seed 0) as are measured."""
    most = max(1, MEASURED_NUMBERS // int(np.prod(data.image_shape)))
    if data.size <= most:
        return data if isinstance(data, ImageSet) else data.read(np.arange(data.size))
    return data.read(np.sort(np.random.default_rng(0).permutation(data.size)[:most]))


def root_mean_square(images: UInt8[np.ndarray, "n h w c"]) -> float:
    """Root mean square of all numbers of the images scaled to [-1, 1], in float64.

    This is sigma_data: with it the network's input has unit mean square at every sigma.

    Raises:
      ArgumentError: the images are not uint8.
    """
    require_uint8(images)
    values, counts = np.unique(images, return_counts=True)
    scaled = values / 127.5 - 1
    return float(np.sqrt((counts * scaled**2).sum() / counts.sum()))
