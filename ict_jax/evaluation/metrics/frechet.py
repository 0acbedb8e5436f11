"""Fréchet distance between two sets of features, in float64 on the host."""

import functools
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from ict_jax.core.errors import require

BLOCK = 4096
"""Rows converted to float64 at a time."""


class Moments(NamedTuple):
    """Mean [d] and unbiased covariance [d, d] of a set of features."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, eq=False)
class MomentSums:
    """Mergeable float64 sums from which the moments of features are computed.

    Products are taken about each part's own mean, so a mean that is large compared with the spread
    costs no digits; the order of merging matters only by rounding.

    Attributes:
      count: number of rows n.
      mean: [d].
      products: [d, d], the sum over rows of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Sum one batch [n, d].

        Raises:
          ArgumentError: not a matrix of at least one row, or a value is not finite.
        """
        features = np.asarray(features)
        check_features(features, rows=1)
        features = features.astype(np.float64)
        mean = features.mean(0)
        features -= mean
        return cls(len(features), mean, features.T @ features)

    def merge(self, other: Self) -> Self:
        """Return the sums over the rows of both.

        With delta = mean_b - mean_a: mean = mean_a + delta n_b / n and
        products = products_a + products_b + delta delta^T n_a n_b / n.

        Source: Chan, Golub & LeVeque 1979, for vectors.

        Raises:
          ArgumentError: the numbers of features differ.
        """
        check_same_size(self.mean.size, other.mean.size)
        count = self.count + other.count
        delta = other.mean - self.mean
        products = np.outer(delta * (self.count * other.count / count), delta)
        products += self.products
        products += other.products
        return type(self)(count, self.mean + delta * (other.count / count), products)

    def moments(self) -> Moments:
        """Return mean and unbiased covariance, products / (n - 1).

        Raises:
          ArgumentError: there are fewer than two rows.
        """
        require(
            self.count >= 2,
            f"a covariance of {self.count} row of features was asked for, expected at least two; "
            "give more examples.",
        )
        return Moments(self.mean, self.products / (self.count - 1))


def moments(features: np.ndarray) -> Moments:
    """Compute mean and covariance of features [n, d] in float64, a block of rows at a time.

    Raises:
      ArgumentError: not a matrix of at least two rows, or a value is not finite.
    """
    features = np.asarray(features)
    check_features(features)
    parts = (MomentSums.of(features[i : i + BLOCK]) for i in range(0, len(features), BLOCK))
    return functools.reduce(MomentSums.merge, parts).moments()


def check_features(*sets: np.ndarray, rows: int = 2) -> None:
    """Raise `ArgumentError` unless all sets are finite [n, d], n >= rows, with the same d >= 1."""
    for features in sets:
        require(
            features.ndim == 2 and len(features) >= rows and features.shape[1] >= 1,
            f"features have shape {features.shape}, expected [n, d] with n >= {rows}; flatten each "
            f"example and give at least {'two' if rows == 2 else rows}.",
        )
        require(
            bool(np.isfinite(features).all()),
            "features contain NaN or Inf, expected finite numbers; check the samples first.",
        )
    check_same_size(*(features.shape[1] for features in sets))


def check_same_size(*sizes: int) -> None:
    """Raise `ArgumentError` unless sets have the same number of features."""
    require(
        len(set(sizes)) == 1,
        f"the two sets have {' and '.join(map(str, sizes))} features, expected the same number in "
        "both; use one extractor for both.",
    )


def rank_warning(n: int, d: int) -> str | None:
    """Return a warning for a Fréchet distance of n examples of d features; None if n > d.

    10,000 images are the usual minimum; 50,000 are what papers report.

    Source: Chong & Forsyth 2020, for a bias that falls about as 1/n.
    """
    if n > d:
        return None
    return (
        f"the covariance of {n:,} examples has rank at most {n - 1:,} and not {d:,}, and the "
        "Fréchet distance is biased upward, by an amount that falls about as 1/n; "
        f"use at least {max(10_000, d + 1):,} examples."
    )


def frechet_distance(a: Moments, b: Moments) -> float:
    """Compute |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a^1/2 S_b S_a^1/2)^1/2).

    With S_a = A A^T and S_b = B B^T the last trace is the sum of the singular values of A^T B.
    The square roots of the eigenvalues of S_a S_b equal them except for rounding: if a covariance
    is rank deficient, each eigenvalue that should be zero is about 1e-16 and its root 1e-8.

    Source: Dowson & Landau 1982; Heusel et al. 2017 (FID), Eq. 6.

    Raises:
      ArgumentError: the numbers of features differ, a covariance is not [d, d], or a value is not
        finite.
    """
    check_same_size(np.size(a.mean), np.size(b.mean))
    a, b = _to_float64(a), _to_float64(b)
    eigen = (_nonzero_eigh(moments.covariance) for moments in (a, b))
    factor_a, factor_b = (vectors * np.sqrt(values) for values, vectors in eigen)
    cross = np.linalg.svd(factor_a.T @ factor_b, compute_uv=False).sum()
    offset = ((a.mean - b.mean) ** 2).sum()
    return float(offset + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def _to_float64(moments: Moments) -> Moments:
    moments = Moments(*(np.asarray(part, np.float64) for part in moments))
    d = moments.mean.size
    require(
        moments.mean.shape == (d,) and moments.covariance.shape == (d, d),
        f"mean and covariance have shapes {moments.mean.shape} and {moments.covariance.shape}, "
        "expected [d] and [d, d]; compute both from the same features.",
    )
    require(
        all(np.isfinite(part).all() for part in moments),
        "the mean or covariance contains NaN or Inf, expected finite numbers; compute the "
        "statistics again.",
    )
    return moments


def _nonzero_eigh(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues [r] and eigenvectors [d, r] without eigenvalues that are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    nonzero = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return values[nonzero], vectors[:, nonzero]


def frechet_standard_error(features: np.ndarray, own: Moments, other: Moments) -> float:
    """Estimate the standard error of `frechet_distance(own, other)` due to sampling the features.

    The features are [n, d], `own` their moments and `other` those of the reference.
    To first order the distance is a mean over the rows of
    2 (mu - mu_o).(x - mu) + (x - mu)^T (I - T) (x - mu), where T maps N(mu, S) optimally to
    N(mu_o, S_o): T = S^-1/2 (S^1/2 S_o S^1/2)^1/2 S^-1/2. The spread of these gives the error.
    It includes neither the bias of few samples nor the sampling error of the other set.

    Source: the derivative of the squared Bures-Wasserstein distance, Bhatia, Jain & Lim 2019; the
    delta method. For Fréchet distances: Rippl, Munk & Sturm 2016.
    """
    values, vectors = _nonzero_eigh(own.covariance)
    root = vectors * np.sqrt(values)
    inverse = vectors / np.sqrt(values)
    squares, inner = np.linalg.eigh(root.T @ other.covariance @ root)
    half = inverse @ inner * np.maximum(squares, 0) ** 0.25
    influences = []
    for start in range(0, len(features), BLOCK):
        x = features[start : start + BLOCK].astype(np.float64) - own.mean
        quadratic = (x**2).sum(1) - ((x @ half) ** 2).sum(1)
        influences.append(2 * x @ (own.mean - other.mean) + quadratic)
    return float(np.concatenate(influences).std(ddof=1) / np.sqrt(len(features)))
