"""Kernel distance between two sets of features (KID), in float64 on the host."""

from typing import NamedTuple

import numpy as np

from ict_jax.core.errors import require
from ict_jax.evaluation.metrics.frechet import check_features

BLOCK = 4096
"""Rows and columns of the kernel matrix computed at a time."""


class KernelDistance(NamedTuple):
    """Mean over subsets, and its standard error.

    If the subsets together have more rows than the set, they overlap; the error then describes the
    choice of subsets, not how another draw of images would differ.
    """

    value: float
    standard_error: float


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the unbiased squared MMD of [n, d] and [m, d] with the kernel (x.y / d + 1)^3.

    The kernel's mean over pairs of two different rows of a, plus that of b, minus twice its mean
    over all pairs across. Its expectation is zero for two sets of one distribution, so it may be
    slightly negative.

    Source: Binkowski et al. 2018 (KID), Section 4, over all pairs.

    Raises:
      ArgumentError: not matrices of at least two rows with the same number of features, or a value
        is not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    check_features(a, b)
    return _mean_within(a) + _mean_within(b) - 2 * _sum_across(a, b) / (len(a) * len(b))


def kid(
    a: np.ndarray, b: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """Average `kernel_distance` over pairs of random subsets, of `size` rows, of [n, d] and [m, d].

    Rows are drawn without replacement by NumPy's `RandomState(seed)`, whose stream is frozen, in
    torch-fidelity's order and with its default seed, so the value equals its KID (its estimator
    "unbiased"). It reports the standard deviation over subsets, standard_error * sqrt(subsets - 1).

    Source: Binkowski et al. 2018, Section 4.

    Raises:
      ArgumentError: as for `kernel_distance`, subsets < 2, size < 2, or a set has fewer rows
        than size.
    """
    a, b = np.asarray(a), np.asarray(b)
    check_features(a, b)
    require(subsets >= 2, f"subsets={subsets} must be at least 2, for an error; 100 is usual.")
    require(
        2 <= size <= min(len(a), len(b)),
        f"size={size} must be at least 2 and at most the number of rows, and the sets have "
        f"{len(a)} and {len(b)}; give more examples or a smaller size.",
    )
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        part_a = a[rng.choice(len(a), size, replace=False)]
        part_b = b[rng.choice(len(b), size, replace=False)]
        values.append(kernel_distance(part_a, part_b))
    return KernelDistance(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T
    base /= x.shape[1]
    base += 1
    return base * base * base


def _sum_across(a: np.ndarray, b: np.ndarray) -> float:
    """Sum the kernel over all pairs, a tile at a time."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            total += float(_kernel(a[i : i + BLOCK], b[j : j + BLOCK]).sum())
    return total


def _mean_within(a: np.ndarray) -> float:
    """Average the kernel over pairs of two different rows."""
    n = len(a)
    diagonal = float((((a * a).sum(1) / a.shape[1] + 1) ** 3).sum())
    return (_sum_across(a, a) - diagonal) / (n * (n - 1))
