"""The two-dimensional data of the evidence, and its distances."""

import numpy as np
import pytest

from configs import digits
from experiments.evidence import mixture, oracle
from experiments.evidence.places import MIXTURE
from ict_jax.config.training import build_dataset


def test_points_are_eight_clusters_on_a_circle():
    images = mixture.dataset().train.images
    assert images.shape == (2000, 1, 2, 1)
    points = images.reshape(-1, 2) / 127.5 - 1
    angles = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi / 8)
    assert np.abs(angles - np.rint(angles)).max() < 0.5
    _, counts = np.unique(np.rint(angles) % 8, return_counts=True)
    assert len(counts) == 8 and counts.min() > 200
    np.testing.assert_allclose(np.linalg.norm(points, axis=1).mean(), 0.7, atol=0.01)


@pytest.mark.slow
def test_distances_are_those_of_the_best_matching():
    points = mixture.dataset().test.images
    moved = points + np.array([[[3], [4]]], np.uint8)  # a shift of every point: 5 / 127.5
    found = mixture.wasserstein(moved[::-1].reshape(5, 1000, 1, 2, 1)[0], points[-1000:])
    np.testing.assert_allclose(found, [5 / 127.5], rtol=1e-9)
    scorer = mixture.MixtureScorer()
    floor = scorer.floor()["w2"]
    middle = scorer.score(np.full((5000, 1, 2, 1), 128, np.uint8))["w2"]
    assert floor < 0.12 < 0.69 < middle < 0.71


def test_the_function_of_the_laws_agrees_with_that_of_many_points():
    points = mixture._draw(3, 20_000).images.reshape(-1, 2) / 127.5 - 1
    x = np.array([[3.0, 1.0], [-0.5, 0.4], [0.1, -2.0]])
    of_points = oracle.solve(x, 2.0, points)
    of_laws = mixture.of_laws(x.reshape(3, 1, 2, 1), np.full(3, 2.0), np.zeros(3)).reshape(3, 2)
    np.testing.assert_allclose(of_points, of_laws, atol=0.03)
    assert np.linalg.norm(of_laws, axis=1).min() > 0.5


def test_it_is_loaded_like_every_data_set_within_the_place():
    with MIXTURE.data():
        assert build_dataset(digits.get_config("smoke")).name == "mixture"
    assert build_dataset(digits.get_config("smoke")).name == "digits"
