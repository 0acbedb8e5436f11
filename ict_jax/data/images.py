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
        """Number of examples."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of every image."""
        ...

    def read(self, index: np.ndarray) -> "ImageSet":
        """Read the examples at integer indices [m], in that order."""
        ...


class ImageSet(NamedTuple):
    """Images uint8 [n, h, w, c] and labels int32 [n] in memory."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of every image."""
        return self.images.shape[1:]

    def read(self, index: np.ndarray) -> "ImageSet":
        """Return the examples at integer indices [m], in that order."""
        return ImageSet(self.images[index], self.labels[index])


def check_labels(labels: Sequence[int] | np.ndarray, num_classes: int, name: str) -> None:
    """Raise `ArgumentError` if a label is no class of the set; networks return NaN for those."""
    least, largest = (int(edge(labels, initial=0)) for edge in (np.min, np.max))
    require(
        0 <= least and largest < num_classes,
        f"{name} has labels from {least} to {largest}, expected 0 to {num_classes - 1}, its "
        f"{num_classes} classes; fix the labels, or get the set again.",
    )


class Dataset(NamedTuple):
    """Data set in three disjoint splits; validation and test are in memory."""

    name: str
    train: Examples
    validation: ImageSet
    test: ImageSet
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of every image."""
        return self.train.image_shape


VALIDATION_PERCENT = 10  # of a published test split
MAX_STATISTICS_VALUES = 200_000_000  # pixel values used for statistics of a training set


def split_test(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Split a published test split, in its order, into validation and test."""
    cut = data.size * VALIDATION_PERCENT // 100
    return (
        ImageSet(data.images[:cut], data.labels[:cut]),
        ImageSet(data.images[cut:], data.labels[cut:]),
    )


def split_images(images: np.ndarray, labels: np.ndarray, sizes: dict[str, int]) -> dict:
    """Split a set into the given sizes after a fixed shuffle (NumPy seed 0)."""
    total = sum(sizes.values())
    require(
        total <= len(images),
        f"the splits {sizes} need {total} images and there are {len(images)}; make them smaller.",
    )
    data = ImageSet(images, labels)
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.split(order, np.cumsum(list(sizes.values())))
    return {split: data.read(part) for split, part in zip(sizes, parts, strict=False)}


def statistics_subset(data: Examples) -> ImageSet:
    """Return a random subset (NumPy seed 0) small enough for statistics; small sets entirely."""
    most = max(1, MAX_STATISTICS_VALUES // int(np.prod(data.image_shape)))
    if data.size <= most:
        return data if isinstance(data, ImageSet) else data.read(np.arange(data.size))
    return data.read(np.sort(np.random.default_rng(0).permutation(data.size)[:most]))


def root_mean_square(images: UInt8[np.ndarray, "n h w c"]) -> float:
    """Compute the root mean square of all values of the images in [-1, 1], in float64.

    This is sigma_data: with it the network's input has unit mean square at every sigma.

    Raises:
      ArgumentError: the images are not uint8.
    """
    require_uint8(images)
    values, counts = np.unique(images, return_counts=True)
    scaled = values / 127.5 - 1
    return float(np.sqrt((counts * scaled**2).sum() / counts.sum()))
