"""Default classes of seeds."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32

_GOLDEN = 0.6180339887498949
"""Its multiples modulo 1 are evenly spread over every interval of seeds."""


def even_labels(seeds: Sequence[int] | range, num_classes: int) -> Int32[np.ndarray, " n"]:
    """Return each seed modulo the number of classes, so that classes are equally frequent."""
    return (np.asarray(seeds, np.int64) % max(num_classes, 1)).astype(np.int32)


def proportional_labels(
    seeds: Sequence[int] | range, counts: Int[np.ndarray, " classes"]
) -> Int32[np.ndarray, " n"]:
    """Return classes in proportion to `counts`: the quantile of seed * golden ratio modulo 1."""
    quantiles = np.cumsum(counts) / np.sum(counts)
    positions = (np.asarray(seeds, np.float64) * _GOLDEN) % 1.0
    return np.searchsorted(quantiles, positions, side="right").astype(np.int32)
