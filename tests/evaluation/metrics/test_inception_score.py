"""Inception Scores whose values follow from the definition."""

import itertools

import numpy as np
import pytest

import ict_jax
from ict_jax.evaluation.metrics.inception_score import inception_score

RNG = np.random.default_rng(0)


def log(probabilities):
    return np.log(np.array(probabilities))


def test_images_of_one_kind_score_one():
    score = inception_score(np.tile(RNG.standard_normal(7), (20, 1)))
    assert score.mean == pytest.approx(1, abs=1e-12) and score.std == pytest.approx(0, abs=1e-12)


def test_sure_and_even_over_c_classes_scores_c():
    logits = 1e4 * np.tile(np.eye(5), (6, 1))  # all but one probability of a row is rounded to 0
    score = inception_score(logits, splits=3)
    assert score.mean == pytest.approx(5, rel=1e-12) and score.std == pytest.approx(0, abs=1e-12)


def test_classes_that_no_image_has_at_all():
    """Their probability is rounded to zero in every row, and its logarithm is not asked for."""
    logits = np.array([[0.0, -3000.0, -1000.0], [-1000.0, -3000.0, 0.0]])
    assert inception_score(logits, splits=1).mean == pytest.approx(2, rel=1e-12)


def test_two_rows_by_hand():
    """p = (3/4, 1/4) and (1/4, 3/4), q = (1/2, 1/2): KL = 3/4 log 3/2 + 1/4 log 1/2 of each."""
    score = inception_score(log([[0.75, 0.25], [0.25, 0.75]]) + 5, splits=1)
    assert score == pytest.approx((1.5**0.75 * 0.5**0.25, 0), rel=1e-13)


def test_mean_and_deviation_over_splits():
    """The first two rows score as above, the last two are alike and score 1."""
    first = 1.5**0.75 * 0.5**0.25
    logits = log([[0.75, 0.25], [0.25, 0.75], [0.2, 0.8], [0.2, 0.8]])
    score = inception_score(logits, splits=2)
    assert score.mean == pytest.approx((first + 1) / 2, rel=1e-13)
    assert score.std == pytest.approx((first - 1) / 2, rel=1e-12)


@pytest.mark.parametrize(("n", "bounds"), [(7, [0, 2, 4, 7]), (8, [0, 2, 5, 8])])
def test_splits_that_do_not_divide_the_images(n, bounds):
    logits = RNG.standard_normal((n, 4))
    parts = [inception_score(logits[i:j], splits=1).mean for i, j in itertools.pairwise(bounds)]
    score = inception_score(logits, splits=3)
    assert score == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_the_shuffle_is_of_its_seed():
    logits = np.repeat(4 * np.eye(5), 10, axis=0)  # by class: every split of one kind
    assert inception_score(logits, splits=5).mean == pytest.approx(1, abs=1e-12)
    shuffled = inception_score(logits, splits=5, seed=2020)
    expected = inception_score(logits[np.random.RandomState(2020).permutation(50)], splits=5)
    assert shuffled == expected and shuffled.mean > 2
    assert shuffled == inception_score(logits, splits=5, seed=2020)
    assert shuffled != inception_score(logits, splits=5, seed=1)


def test_is_computed_in_float64():
    logits = RNG.standard_normal((40, 6)).astype(np.float32)
    wide = inception_score(logits.astype(np.float64))
    assert inception_score(logits) == wide


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((9, 3)), {}), "9 images were given for splits=10, expected at least one"),
        ((np.zeros((9, 3)), {"splits": 0}), "splits=0 must be at least 1"),
        ((np.zeros(9), {}), r"logits have shape \(9,\), expected \[n, c\]"),
        ((np.zeros((90, 1)), {}), "with c >= 2 classes"),
        ((np.full((20, 3), np.nan), {}), "logits contain NaN or Inf"),
        ((np.full((20, 3), -np.inf), {}), "logits contain NaN or Inf"),
    ],
)
def test_errors(arguments, message):
    logits, options = arguments
    with pytest.raises(ict_jax.ArgumentError, match=message):
        inception_score(logits, **options)
