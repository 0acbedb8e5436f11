"""The true consistency function that the evidence measures distances to."""

import numpy as np
import pytest

from experiments.evidence import oracle
from ict_jax.data import load_data


def test_of_one_point_it_is_a_straight_line():
    """f(x, sigma) = y + (sigma_min / sigma) (x - y)."""
    point, x = np.array([[0.3, -0.2]]), np.random.default_rng(0).standard_normal((5, 2)) * 3
    for sigma in (0.01, 1.0, 80.0):
        expected = point + 0.002 / sigma * (x - point)
        np.testing.assert_allclose(oracle.solve(x, sigma, point), expected, atol=1e-7)


def test_of_two_points_it_agrees_with_another_tolerance_and_with_symmetry():
    points = np.array([[-0.5, 0.1], [0.5, -0.1]])
    x = np.random.default_rng(0).standard_normal((20, 2)) * 2
    found = oracle.solve(x, 2.0, points)
    np.testing.assert_allclose(found, oracle.solve(x, 2.0, points, tolerance=1e-11), atol=1e-6)
    np.testing.assert_allclose(oracle.solve(-x, 2.0, points), -found, atol=1e-6)
    nearest = np.linalg.norm(found[:, None] - points[None], axis=2).min(1)
    assert np.median(nearest) < 0.01  # almost all of the noise is gone
    # It maps the levels of one path to one place.
    on_path = oracle.solve(x, 2.0, points, sigma_min=0.7)
    np.testing.assert_allclose(oracle.solve(on_path, 0.7, points), found, atol=1e-6)


def test_the_denoiser_is_the_mean_of_what_may_be():
    points = np.array([[0.0], [1.0], [5.0]])
    x = np.array([[0.2], [0.9]])
    weights = np.exp(-((x - points.T) ** 2) / 2)
    expected = (weights @ points) / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(oracle.denoise(x, 1.0, points), expected)
    allowed = np.array([[True, False, False], [False, True, False]])
    np.testing.assert_allclose(oracle.denoise(x, 1.0, points, allowed), [[0.0], [1.0]])


@pytest.mark.slow
def test_errors_are_nothing_at_the_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle, "SIGMAS", (0.2, 2.0))
    dataset = load_data("digits")
    true = oracle.truth(dataset, tmp_path / "truth.npz", examples=4)
    again = oracle.truth(dataset, tmp_path / "truth.npz", examples=4)
    for a, b in zip(true, again, strict=True):
        np.testing.assert_array_equal(a, b)
    outputs = iter(true.outputs)
    assert max(oracle.errors(lambda x, sigma, labels: next(outputs), true).values()) == 0
    off = oracle.errors(lambda x, sigma, labels: x, true)
    np.testing.assert_allclose(off["0.2"], 0.2, rtol=0.1)
