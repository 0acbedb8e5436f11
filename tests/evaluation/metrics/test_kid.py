"""Kernel distances against loops, closed forms and their own subsets."""

import numpy as np
import pytest

import ict_jax
from ict_jax.evaluation.metrics.kid import kernel_distance, kid

RNG = np.random.default_rng(0)


def by_loops(a, b):
    def k(x, y):
        return (x @ y / a.shape[1] + 1) ** 3

    def within(s):
        n = len(s)
        return sum(k(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    return within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_by_hand():
    """Rows (0, 0), (2, 0) and (0, 2), (2, 2): kernels 1; (4 / 2 + 1)^3 = 27; 1, 1, 1, 27."""
    a, b = np.array([[0, 0], [2, 0]]), np.array([[0, 2], [2, 2]])
    assert kernel_distance(a, b) == pytest.approx(1 + 27 - 2 * (1 + 1 + 1 + 27) / 4, rel=1e-14)


def test_one_point_against_another():
    """Sets of copies of x and of y: k(x, x) + k(y, y) - 2 k(x, y), with x.x = 9, y.y = 4, d 1."""
    a, b = np.full((5, 1), 3.0), np.full((4, 1), 2.0)
    assert kernel_distance(a, b) == pytest.approx(10**3 + 5**3 - 2 * 7**3, rel=1e-13)


@pytest.mark.parametrize("block", [4096, 4])
def test_against_loops(block, monkeypatch):
    monkeypatch.setattr("ict_jax.evaluation.metrics.kid.BLOCK", block)
    a, b = RNG.standard_normal((7, 3)), RNG.standard_normal((9, 3)) + 0.5
    assert kernel_distance(a, b) == pytest.approx(by_loops(a, b), rel=1e-12)


def test_is_unbiased():
    draws = [
        kernel_distance(RNG.standard_normal((40, 5)), RNG.standard_normal((40, 5)))
        for _ in range(400)
    ]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0 < max(draws)


def test_mean_and_error_over_subsets():
    a, b = RNG.standard_normal((30, 4)), RNG.standard_normal((25, 4)) + 0.3
    rng = np.random.RandomState(7)
    values = [
        by_loops(a[rng.permutation(30)[:6]], b[rng.permutation(25)[:6]])  # what `choice` draws
        for _ in range(11)
    ]
    score = kid(a, b, subsets=11, size=6, seed=7)
    assert score.value == pytest.approx(np.mean(values), rel=1e-11)
    squares = sum((v - np.mean(values)) ** 2 for v in values)
    assert score.standard_error == pytest.approx(np.sqrt(squares / 10 / 11), rel=1e-11)
    assert kid(a, b, subsets=11, size=6, seed=8) != score


def test_a_subset_of_all_is_all():
    a, b = RNG.standard_normal((12, 4)), RNG.standard_normal((12, 4))
    score = kid(a, b, subsets=3, size=12)
    assert score.value == pytest.approx(kernel_distance(a, b), rel=1e-10)
    assert score.standard_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: kernel_distance(a, np.full((3, 2), np.inf)), "features contain NaN or Inf"),
        (lambda a: kernel_distance(a, a[:1]), r"with n >= 2; flatten"),
        (lambda a: kernel_distance(a, a[:, :1]), "the two sets have 2 and 1 features"),
        (lambda a: kid(a, np.full((3, 2), np.nan)), "features contain NaN or Inf"),
        (lambda a: kid(a, a[:, :1]), "the two sets have 2 and 1 features"),
        (lambda a: kid(a, a[:4]), "size=1000 must be .* and the sets have 5 and 4; give more"),
        (lambda a: kid(a[:3], a, size=4), "size=4 must be .* and the sets have 3 and 5; give"),
        (lambda a: kid(a, a[:3], size=4), "size=4 must be .* and the sets have 5 and 3; give"),
        (lambda a: kid(a, a, size=1), "size=1 must be at least 2"),
        (lambda a: kid(a, a, size=3, subsets=1), "subsets=1 must be at least 2"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        call(RNG.standard_normal((5, 2)))
