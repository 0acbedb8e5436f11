"""Distances against closed forms and slow references."""

import numpy as np
import pytest
import scipy.linalg

import ict_jax
from ict_jax.evaluation.frechet import Moments, frechet_distance, kernel_distance, moments

RNG = np.random.default_rng(0)


def random_moments(d, rank=None):
    root = RNG.standard_normal((d, rank or d))
    return Moments(RNG.standard_normal(d), root @ root.T / d)


def test_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    a = Moments(np.array([1.0]), np.array([[4.0]]))
    b = Moments(np.array([-2.0]), np.array([[0.25]]))
    assert frechet_distance(a, b) == pytest.approx(9 + 1.5**2, rel=1e-12)


def test_against_the_matrix_square_root():
    for _ in range(3):
        a, b = random_moments(20), random_moments(20)
        root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
        expected = ((a.mean - b.mean) ** 2).sum()
        expected += np.trace(a.covariance + b.covariance - 2 * root)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_rank_deficient_covariances():
    """In a shared subspace the distance is that of the subspace."""
    a, b = random_moments(5), random_moments(5)
    basis = np.linalg.qr(RNG.standard_normal((30, 5)))[0]
    embedded = [Moments(basis @ m.mean, basis @ m.covariance @ basis.T) for m in (a, b)]
    assert frechet_distance(*embedded) == pytest.approx(frechet_distance(a, b), rel=1e-6)
    c, d = random_moments(30, rank=3), random_moments(30, rank=2)
    assert frechet_distance(c, d) > 0
    assert frechet_distance(c, c) == pytest.approx(0, abs=1e-6)


def test_symmetry_and_moments():
    x = RNG.standard_normal((50, 4))
    m = moments(x.astype(np.float32))
    np.testing.assert_allclose(m.mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(m.covariance, np.cov(x.T), atol=1e-6)
    a, b = random_moments(6), random_moments(6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_kernel_distance_against_loops():
    a, b = RNG.standard_normal((7, 3)), RNG.standard_normal((9, 3)) + 0.5

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    def within(s):
        n = len(s)
        return sum(k(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within(a) + within(b) - 2 * across, rel=1e-12)


def test_kernel_distance_is_unbiased():
    draws = [
        kernel_distance(RNG.standard_normal((40, 5)), RNG.standard_normal((40, 5)))
        for _ in range(400)
    ]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0 < max(draws)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments(np.zeros(5)), r"features have shape \(5,\), expected \[n, d\]"),
        (lambda: moments(np.zeros((1, 5))), r"with n >= 2; flatten"),
        (lambda: moments(np.full((3, 2), np.nan)), "features contain NaN or Inf"),
        (lambda: kernel_distance(np.zeros((3, 2)), np.full((3, 2), np.inf)), "NaN or Inf"),
        (
            lambda: frechet_distance(random_moments(3), random_moments(4)),
            "the two sets have 3 and 4 features",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        call()
