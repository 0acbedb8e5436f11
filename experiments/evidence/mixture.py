"""Two numbers from eight normal distributions on a circle, as images of two pixels.

To pass through the same loading, training and sampling as images, they are rounded to the 256
values of a pixel; the true consistency function is that of the rounded training points.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from ict_jax.config import training
from ict_jax.config.training import load_data
from ict_jax.data import Dataset, ImageSet

RADIUS, SPREAD, MODES = 0.7, 0.06, 8
TRAINING, HELD_OUT = 2000, 5000
COMPARED = 1000
"""Points in one distance; pools of samples are compared in disjoint parts of this size."""


def dataset() -> Dataset:
    """Draw training, validation and test points, all of one class."""
    return Dataset(
        "mixture", _draw(0, TRAINING), _draw(1, HELD_OUT), _draw(2, HELD_OUT), num_classes=1
    )


def _draw(seed: int, count: int) -> ImageSet:
    rng = np.random.default_rng(seed)
    points = _centres(rng.integers(MODES, size=count)) + SPREAD * rng.standard_normal((count, 2))
    pixels = np.rint((np.clip(points, -1, 1) + 1) * 127.5).astype(np.uint8)
    return ImageSet(pixels.reshape(count, 1, 2, 1), np.zeros(count, np.int32))


def _centres(modes: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * modes / MODES
    return RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@contextlib.contextmanager
def as_data() -> Iterator[None]:
    """Make every config train on the mixture."""

    @functools.wraps(load_data)
    def load(name: str, **_: Any) -> Dataset:
        return dataset()

    with mock.patch.object(training, "load_data", load):
        yield


def of_laws(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the true consistency function of the eight distributions, not of the training points.

    Args:
      x: points as images [n, 1, 2, 1].
      sigma: [n], all equal.
      labels: unused.
    """
    centres = _centres(np.arange(MODES))

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        points, variance = flat.reshape(-1, 2), np.exp(2 * log_sigma)
        squared = ((points[:, None] - centres[None]) ** 2).sum(2)
        shares = softmax(-squared / (2 * (variance + SPREAD**2)), axis=1)
        drawn = (shares @ centres * variance + points * SPREAD**2) / (variance + SPREAD**2)
        return (points - drawn).ravel()

    span = (np.log(float(sigma[0])), np.log(0.002))
    flat = x.astype(np.float64).ravel()
    solution = solve_ivp(slope, span, flat, "DOP853", rtol=1e-8, atol=1e-8)
    return solution.y[:, -1].reshape(x.shape)


def wasserstein(pool: np.ndarray, other: np.ndarray) -> list[float]:
    """Compute exact Wasserstein-2 distances between the disjoint parts of two point sets."""
    return [
        _between(pool[start : start + COMPARED], other[start : start + COMPARED])
        for start in range(0, min(len(pool), len(other)) - COMPARED + 1, COMPARED)
    ]


def _between(pool: np.ndarray, other: np.ndarray) -> float:
    a, b = (points.reshape(-1, 2) / 127.5 - 1 for points in (pool, other))
    costs = ((a[:, None] - b[None]) ** 2).sum(2)
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


class MixtureScorer:
    """Scorer of pools of points by their Wasserstein-2 distance to held-out ones."""

    def __init__(self) -> None:
        self.dataset = dataset()

    def floor(self) -> dict[str, float]:
        """Average over four fresh draws, and over four that repeat training points exactly."""
        fresh = [self.score(_draw(seed, HELD_OUT).images)["w2"] for seed in range(10, 14)]
        points, rng = self.dataset.train.images, np.random.default_rng(0)
        again = [self.score(points[rng.integers(TRAINING, size=HELD_OUT)])["w2"] for _ in fresh]
        return {"w2": float(np.mean(fresh)), "w2_training": float(np.mean(again))}

    def score(self, pool: np.ndarray) -> dict[str, float]:
        """Return the mean and standard deviation over the parts."""
        found = wasserstein(pool, self.dataset.test.images)
        return {"w2": float(np.mean(found)), "w2_std": float(np.std(found, ddof=1))}

    def validation_distance(self, pool: np.ndarray) -> float:
        """Return the distance of the first part to other held-out points."""
        return _between(pool[:COMPARED], self.dataset.validation.images[:COMPARED])
