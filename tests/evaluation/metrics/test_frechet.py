"""Moments of streams and Fréchet distances, against closed forms and slow references."""

import functools
import itertools

import numpy as np
import pytest
import scipy.linalg

import ict_jax
from ict_jax.evaluation.metrics.frechet import (
    Moments,
    MomentSums,
    frechet_distance,
    moments,
    rank_warning,
)

RNG = np.random.default_rng(0)


def random_moments(d, rank=None):
    root = RNG.standard_normal((d, rank or d))
    return Moments(RNG.standard_normal(d), root @ root.T / d)


def test_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    a = Moments(np.array([1.0]), np.array([[4.0]]))
    b = Moments(np.array([-2.0]), np.array([[0.25]]))
    assert frechet_distance(a, b) == pytest.approx(9 + 1.5**2, rel=1e-12)


def test_diagonal_covariances():
    """|m1 - m2|^2 + |s1 - s2|^2, zeros among them."""
    a = Moments(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 9.0, 0.0]))
    b = Moments(np.array([1.0, 0.0, 0.0]), np.diag([1.0, 0.0, 25.0]))
    assert frechet_distance(a, b) == pytest.approx(4 + 1 + 9 + 25, rel=1e-12)
    constant = Moments(np.zeros(3), np.zeros((3, 3)))
    assert frechet_distance(constant, b) == pytest.approx(1 + 26, rel=1e-12)
    assert frechet_distance(constant, constant) == 0


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
    assert frechet_distance(*embedded) == pytest.approx(frechet_distance(a, b), rel=1e-10)
    c, d = random_moments(30, rank=3), random_moments(30, rank=2)
    assert frechet_distance(c, d) > 0
    assert frechet_distance(c, c) == pytest.approx(0, abs=1e-12)


def test_fewer_examples_than_features():
    """Tr (S_a S_b)^1/2 is the sum of the singular values of the n x m matrix of products."""
    scales = np.arange(1, 301) ** -1.0
    x = RNG.standard_normal((80, 300)) * scales
    y = (RNG.standard_normal((60, 300)) + 0.05) * scales
    a, b = (s - s.mean(0) for s in (x, y))
    cross = np.linalg.svd(a @ b.T / np.sqrt(79 * 59), compute_uv=False).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected += (a**2).sum() / 79 + (b**2).sum() / 59 - 2 * cross
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-11)


def test_symmetry_and_moments():
    x = RNG.standard_normal((50, 4))
    m = moments(x.astype(np.float32))
    np.testing.assert_allclose(m.mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(m.covariance, np.cov(x.T), atol=1e-6)
    a, b = random_moments(6), random_moments(6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_moments_by_hand():
    """Of (0, 0), (2, 0), (1, 3): deviations (-1, -1), (1, -1), (0, 2) over n - 1 = 2."""
    rows = np.array([[0, 0], [2, 0], [1, 3]])
    sums = MomentSums.of(rows[:1]).merge(MomentSums.of(rows[1:]))
    assert sums.count == 3
    np.testing.assert_array_equal(sums.products, [[2, 0], [0, 6]])
    for m in (sums.moments(), moments(rows)):
        np.testing.assert_array_equal(m.mean, [1, 1])
        np.testing.assert_array_equal(m.covariance, [[1, 0], [0, 3]])


def stream(n, d):
    """float32 of mean 1e4 and standard deviation 1, and its moments in two passes."""
    mixed = RNG.standard_normal((n, d)) @ RNG.standard_normal((d, d)) / np.sqrt(d)
    features = (1e4 + mixed).astype(np.float32)
    wide = features.astype(np.longdouble)
    deviations = (wide - wide.mean(0)).astype(np.float64)
    return features, Moments(
        wide.mean(0).astype(np.float64), deviations.T @ deviations / (len(wide) - 1)
    )


def assert_close(got, expected, tolerance):
    np.testing.assert_allclose(got.mean, expected.mean, rtol=tolerance)
    scales = np.sqrt(np.diag(expected.covariance))
    np.testing.assert_allclose(
        got.covariance / np.outer(scales, scales),
        expected.covariance / np.outer(scales, scales),
        atol=tolerance,
    )


@pytest.mark.parametrize("size", [1, 37, 256, 6000])
def test_a_stream_of_batches_with_a_large_mean(size):
    features, expected = stream(6000, 40)
    parts = [MomentSums.of(features[i : i + size]) for i in range(0, len(features), size)]
    total = functools.reduce(MomentSums.merge, parts)
    assert total.count == 6000
    assert_close(total.moments(), expected, 1e-12)
    assert_close(moments(features), expected, 1e-12)


def test_the_order_of_merging_matters_by_rounding_only():
    features, expected = stream(3000, 20)
    bounds = [0, 1, 10, 700, 701, 2000, 3000]
    parts = [MomentSums.of(features[i:j]) for i, j in itertools.pairwise(bounds)]
    shuffled = [parts[i] for i in RNG.permutation(len(parts))]
    tree = parts
    while len(tree) > 1:
        tree = [functools.reduce(MomentSums.merge, tree[i : i + 2]) for i in range(0, len(tree), 2)]
    for order in (parts, parts[::-1], shuffled, tree):
        assert_close(functools.reduce(MomentSums.merge, order).moments(), expected, 1e-12)
    same = parts[2].merge(parts[3]), parts[3].merge(parts[2])
    np.testing.assert_allclose(same[0].products, same[1].products, rtol=1e-12, atol=1e-9)


def test_features_are_left_as_they_were():
    x = RNG.standard_normal((5, 3))
    before = x.copy()
    MomentSums.of(x)
    np.testing.assert_array_equal(x, before)


def test_note_of_low_rank():
    assert rank_warning(2049, 2048) is None
    assert rank_warning(2048, 2048) == (
        "the covariance of 2,048 examples has rank at most 2,047 and not 2,048, and the "
        "Fréchet distance is biased upward, by an amount that falls about as 1/n; "
        "use at least 10,000 examples."
    )
    assert "use at least 20,001 examples" in rank_warning(100, 20_000)


NAN = np.full((3, 2), np.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments(np.zeros(5)), r"features have shape \(5,\), expected \[n, d\]"),
        (lambda: moments(np.zeros((1, 5))), r"with n >= 2; flatten each .* at least two\."),
        (lambda: moments(np.zeros((5, 0))), r"shape \(5, 0\), expected"),
        (lambda: moments(NAN), "features contain NaN or Inf"),
        (lambda: MomentSums.of(NAN), "features contain NaN or Inf"),
        (lambda: MomentSums.of(np.zeros((0, 5))), r"with n >= 1; flatten each .* at least 1\."),
        (
            lambda: MomentSums.of(np.zeros((1, 5))).moments(),
            "covariance of 1 row of features was asked for, expected at least two",
        ),
        (
            lambda: MomentSums.of(np.zeros((2, 5))).merge(MomentSums.of(np.zeros((2, 1)))),
            "the two sets have 5 and 1 features",
        ),
        (
            lambda: frechet_distance(random_moments(3), random_moments(4)),
            "the two sets have 3 and 4 features, expected the same number in both; use one",
        ),
        (
            lambda: frechet_distance(random_moments(3), Moments(np.zeros(3), np.eye(4))),
            r"have shapes \(3,\) and \(4, 4\), expected \[d\] and \[d, d\]; compute both",
        ),
        (
            lambda: frechet_distance(random_moments(2), Moments(np.zeros(2), NAN[:2])),
            "the mean or covariance contains NaN or Inf",
        ),
        (
            lambda: frechet_distance(Moments(NAN[0], np.eye(2)), random_moments(2)),
            "the mean or covariance contains NaN or Inf",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ict_jax.ArgumentError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
