"""Fréchet distance and kernel distance between two sets of features, in float64 on the host."""

from typing import NamedTuple

import numpy as np

from ict_jax.core.errors import require


class Moments(NamedTuple):
    """Mean [d] and unbiased covariance [d, d] of a set of features."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance of features [n, d], computed in float64.

    Raises:
      ArgumentError: not a matrix of at least two rows, or a value is not finite.
    """
    features = np.asarray(features, np.float64)
    check_features(features)
    return Moments(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


def check_features(features: np.ndarray) -> None:
    """Raises `ArgumentError` unless features is a finite [n, d] with n >= 2."""
    require(
        features.ndim == 2 and len(features) >= 2,
        f"features have shape {features.shape}, expected [n, d] with n >= 2; flatten each "
        "example and give at least two.",
    )
    require(
        bool(np.isfinite(features).all()),
        "features contain NaN or Inf, expected finite numbers; check the samples first.",
    )


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a^1/2 S_b S_a^1/2)^1/2).

    The last trace is the sum of square roots of the eigenvalues of a symmetric matrix, so no
    complex square root arises and rank-deficient covariances are fine.

    Source: Dowson & Landau 1982; Heusel et al. 2017 (FID), Eq. 6.
    """
    require(
        a.mean.shape == b.mean.shape,
        f"the two sets have {a.mean.size} and {b.mean.size} features, expected as many in "
        "both; use one extractor for both.",
    )
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    offset = ((a.mean - b.mean) ** 2).sum()
    return float(offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Zero on average for two sets of one distribution, so it may be slightly negative.

    Source: Binkowski et al. 2018 (KID), Section 4, over all pairs in one block.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    check_features(a)
    check_features(b)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_off_diagonal(matrix: np.ndarray) -> float:
        n = len(matrix)
        return (matrix.sum() - np.trace(matrix)) / (n * (n - 1))

    within = mean_off_diagonal(kernel(a, a)) + mean_off_diagonal(kernel(b, b))
    return float(within - 2 * kernel(a, b).mean())
