"""Two numbers from eight normal laws on a circle, as images of two pixels.

So that they pass through the same loading, training and sampling as images do, they are rounded to
the 256 values of a pixel; the true consistency function is that of the rounded training points.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from scipy.optimize import linear_sum_assignment

from ict_jax import build
from ict_jax.data import Dataset, ImageSet

RADIUS, SPREAD, MODES = 0.7, 0.06, 8
TRAINING, HELD_OUT = 2000, 5000
COMPARED = 1000
"""Points of one distance; a pool of samples is compared in disjoint parts of so many."""


def dataset() -> Dataset:
    """Training, validation and test points, all of one class."""
    return Dataset(
        "mixture", _draw(0, TRAINING), _draw(1, HELD_OUT), _draw(2, HELD_OUT), num_classes=1
    )


def _draw(seed: int, count: int) -> ImageSet:
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * rng.integers(MODES, size=count) / MODES
    centres = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = centres + SPREAD * rng.standard_normal((count, 2))
    pixels = np.rint((np.clip(points, -1, 1) + 1) * 127.5).astype(np.uint8)
    return ImageSet(pixels.reshape(count, 1, 2, 1), np.zeros(count, np.int32))


@contextlib.contextmanager
def as_data() -> Iterator[None]:
    """Within it every config trains on the mixture."""

    @functools.wraps(build.load_data)
    def load(name: str, **_: Any) -> Dataset:
        return dataset()

    with mock.patch.object(build, "load_data", load):
        yield


def wasserstein(pool: np.ndarray, other: np.ndarray) -> list[float]:
    """Wasserstein-2 distances of point sets, exact, of each disjoint part of both."""
    return [
        _between(pool[start : start + COMPARED], other[start : start + COMPARED])
        for start in range(0, min(len(pool), len(other)) - COMPARED + 1, COMPARED)
    ]


def _between(pool: np.ndarray, other: np.ndarray) -> float:
    a, b = (points.reshape(-1, 2) / 127.5 - 1 for points in (pool, other))
    costs = ((a[:, None] - b[None]) ** 2).sum(2)
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


class MixtureScorer:
    """Scores pools of points by their Wasserstein-2 distance to held-out ones."""

    def __init__(self) -> None:
        self.dataset = dataset()

    def floor(self) -> dict[str, float]:
        """Held-out points against others."""
        return self.score(self.dataset.validation.images)

    def score(self, pool: np.ndarray) -> dict[str, float]:
        """Mean and standard deviation over the parts."""
        found = wasserstein(pool, self.dataset.test.images)
        return {"w2": float(np.mean(found)), "w2_std": float(np.std(found, ddof=1))}

    def validation_distance(self, pool: np.ndarray) -> float:
        """Of the first part, to other held-out points."""
        return _between(pool[:COMPARED], self.dataset.validation.images[:COMPARED])
