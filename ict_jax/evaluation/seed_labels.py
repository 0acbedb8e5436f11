"""The class of each seed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32

_GOLDEN = 0.6180339887498949
"""Its multiples modulo 1 are spread evenly over every stretch of seeds."""


def even_labels(seeds: Sequence[int] | range, num_classes: int) -> Int32[np.ndarray, " n"]:
    """Seed modulo the number of classes, so that all are equally many."""
    return (np.asarray(seeds, np.int64) % max(num_classes, 1)).astype(np.int32)


def labels_as_in(
    seeds: Sequence[int] | range, counts: Int[np.ndarray, " classes"]
) -> Int32[np.ndarray, " n"]:
    """Classes as often as in a data set: the quantile of (seed times the golden ratio) modulo 1.

    Args:
      seeds: one per image.
      counts: how many images of each class the data set has.
    """
    quantiles = np.cumsum(counts) / np.sum(counts)
    positions = (np.asarray(seeds, np.float64) * _GOLDEN) % 1.0
    return np.searchsorted(quantiles, positions, side="right").astype(np.int32)
