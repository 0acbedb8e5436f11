"""Precision and recall of points laid out by hand, and against loops."""

import numpy as np
import pytest

import ict_jax
from ict_jax.evaluation.metrics import precision_recall as module
from ict_jax.evaluation.metrics.precision_recall import precision_recall


def column(*values):
    return np.array(values, np.float32)[:, None]


def by_loops(real, fake, k):
    """Kynkäänniemi et al.'s Eqs. 1 and 2, pair by pair."""
    real, fake = (s.astype(np.float64) for s in (real, fake))

    def share(points, centres):
        inside = np.zeros(len(points), bool)
        for i, centre in enumerate(centres):
            others = np.delete(centres, i, axis=0)
            radius = np.sort(((others - centre) ** 2).sum(1))[k - 1]
            inside |= ((points - centre) ** 2).sum(1) <= radius
        return inside.mean()

    return share(fake, real), share(real, fake)


def test_on_a_line():
    """k = 1: balls about 0, 1, 10 reach 1, 1, 9, that is [-1, 1], [0, 2], [1, 19].

    Those about 1.5, 20, 24 reach 18.5, 4, 4: [-17, 20], [16, 24], [20, 28].
    """
    real, fake = column(0, 1, 10), column(1.5, 20, 24)
    assert precision_recall(real, fake, k=1) == (1 / 3, 1)
    assert precision_recall(fake, real, k=1) == (1, 1 / 3)


def test_the_surface_belongs_to_the_ball():
    real, on, beyond = column(0, 3), column(6, 6), column(6.001, 6.001)
    assert precision_recall(real, on, k=1).precision == 1
    assert precision_recall(real, beyond, k=1).precision == 0


def test_the_point_itself_is_no_neighbour_but_a_copy_is():
    """With copies in place of the first neighbour all balls are points."""
    real = column(0, 0, 5, 5)
    assert precision_recall(real, column(0.5, 5), k=1).precision == 0.5
    assert precision_recall(real, column(0.5, 5, 7), k=2).precision == 1


def test_the_kth_neighbour():
    """How far right the balls reach: that about 8, whose neighbours are 4, 6, 7 and 8 away."""
    real = column(0, 1, 2, 4, 8)
    reach = [max(x for x in range(40) if inside(real, x, k)) for k in (1, 2, 3, 4)]
    assert reach == [8 + 4, 8 + 6, 8 + 7, 8 + 8]


def inside(real, x, k):
    # There are more fake points, far to the left, since x must have k neighbours itself.
    return precision_recall(real, column(x, *([-500] * 4)), k=k).precision > 0


def test_apart_and_alike():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((40, 6)).astype(np.float32)
    assert precision_recall(points, points + 100) == (0, 0)
    assert precision_recall(points, points[::-1]) == (1, 1)
    # Few samples, all good: precise, and most of the real points are not found.
    precision, recall = precision_recall(points, points[:5] * 1.001, k=3)
    assert precision == 1 and recall < 1


@pytest.mark.parametrize("block", [4096, 64, 7])
def test_copies_are_found_and_only_copies(block):
    """Four copies of each: every ball is a point, and rounding neither hides nor widens it."""
    rng = np.random.default_rng(0)
    points = (1e4 + rng.standard_normal((50, 300))).astype(np.float32)
    copies = np.repeat(points, 4, axis=0)
    assert precision_recall(copies, points, k=3, block=block).precision == 1
    points[:, 0] = np.nextafter(points[:, 0], np.float32(np.inf))
    assert precision_recall(copies, points, k=3, block=block).precision == 0


def test_copies_are_at_distance_zero():
    """So that decisions about them do not depend on how a BLAS orders its sums."""
    x = np.random.default_rng(0).standard_normal((40, 300))
    squared = module._squared_distances(x, x.copy())
    assert (np.diag(squared) == 0).all() and (squared > 0).sum() == 40 * 39


def test_distances_are_in_float64():
    """The ball about 0 ends at -1."""
    fake = np.array([[-1 - 1e-9], [-1 + 1e-9]])
    assert precision_recall(np.array([[0.0], [1.0]]), fake, k=1).precision == 0.5


@pytest.mark.parametrize("block", [4096, 16, 7, 1])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_loops_with_many_ties(block, k):
    """On a grid of integers distances are exact, and most are equal to others."""
    rng = np.random.default_rng(0)
    real = rng.integers(-3, 4, (60, 3)).astype(np.float64)
    fake = rng.integers(-1, 8, (45, 3)).astype(np.float64)
    expected = by_loops(real, fake, k)
    assert 0 < expected[0] < 1 and 0 < expected[1] < 1
    assert precision_recall(real, fake, k=k, block=block) == expected
    far = 2.0**30  # whose square leaves no bits for the distances
    assert precision_recall(real + far, fake + far, k=k, block=block) == expected


def test_against_loops_on_float32_with_a_large_mean():
    rng = np.random.default_rng(0)
    real = (1e4 + rng.standard_normal((900, 20))).astype(np.float32)
    fake = (1e4 + 0.2 + 0.8 * rng.standard_normal((700, 20))).astype(np.float32)
    expected = by_loops(real, fake, 3)
    assert 0.1 < expected[0] < 0.98 and 0.1 < expected[1] < 0.98
    for block in (4096, 400):
        assert precision_recall(real, fake, block=block) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: precision_recall(a, a[:3]), "k=3 must be .* and the sets have 5 and 3; give"),
        (lambda a: precision_recall(a[:3], a), "the sets have 3 and 5; give more examples"),
        (lambda a: precision_recall(a, a, k=0), "k=0 must be at least 1"),
        (lambda a: precision_recall(a, a, block=0), "block=0 must be at least 1"),
        (lambda a: precision_recall(a, a[:, :1]), "the two sets have 2 and 1 features"),
        (lambda a: precision_recall(a, a * np.nan), "features contain NaN or Inf"),
        (lambda a: precision_recall(a[0], a), r"features have shape \(2,\), expected"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        call(np.arange(10.0).reshape(5, 2))
