"""A set of labelled images in memory."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from ict_jax.core.errors import require


class ImageSet(NamedTuple):
    """Images uint8 [n, h, w, c] and labels int32 [n] of one split."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]


class Dataset(NamedTuple):
    """A data set in its three disjoint splits."""

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self.train.images.shape[1:]


VALIDATION_PERCENT = 10
"""Share of a published test split on which choices are made; the rest is scored."""


def split_test(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """The validation and test parts of a published test split, in its order."""
    cut = len(data.images) * VALIDATION_PERCENT // 100
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


def root_mean_square(images: UInt8[np.ndarray, "n h w c"]) -> float:
    """Root mean square of all numbers of the images scaled to [-1, 1], in float64.

    This is sigma_data: with it the network's input has unit mean square at every sigma.
    """
    values, counts = np.unique(images, return_counts=True)
    scaled = values / 127.5 - 1
    return float(np.sqrt((counts * scaled**2).sum() / counts.sum()))
