"""How far a Fréchet distance would move if other samples were drawn."""

import numpy as np

from ict_jax.evaluation.frechet import Moments

BLOCK = 4096
"""Rows that are worked through at a time."""


def frechet_standard_error(features: np.ndarray, own: Moments, other: Moments) -> float:
    """Standard error of `frechet_distance(own, other)` from the draw of the features.

    To first order the distance is a mean over the rows of
    2 (mu - mu_o).(x - mu) + (x - mu)^T (I - T) (x - mu), where T maps N(mu, S) optimally to
    N(mu_o, S_o): T = S^-1/2 (S^1/2 S_o S^1/2)^1/2 S^-1/2. The spread of these gives the error.
    It says nothing of the bias of few samples, and nothing of the draw of the other set.

    Source: the derivative of the squared Bures-Wasserstein distance, Bhatia, Jain & Lim 2019; the
    delta method. For Fréchet distances: Rippl, Munk & Sturm 2016.

    Args:
      features: [n, d], the rows of which `own` are the moments.
      own: of the samples.
      other: of the reference.
    """
    values, vectors = np.linalg.eigh(own.covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[kept], vectors[:, kept]
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
