"""The scores of known pools: real images, copies, noise."""

import jax
import numpy as np
import pytest

import ict_jax
from ict_jax.data import load_data
from ict_jax.evaluation.classifier import Classifier, Extractor
from ict_jax.evaluation.evaluator import Evaluator
from ict_jax.evaluation.held_out import Scorer, choose_second_sigma, score_model, table


@pytest.fixture(scope="module")
def dataset():
    return load_data("digits")


@pytest.fixture(scope="module")
def scorer(dataset):
    return Scorer(dataset, num_samples=400)


def test_extractor_classifies_and_is_deterministic(dataset, scorer):
    assert scorer.extractor.accuracy(dataset.test) > 0.96
    again = Extractor(dataset)(dataset.test.images[:10])
    np.testing.assert_array_equal(
        again.features, scorer.extractor(dataset.test.images[:10]).features
    )
    train = scorer.extractor(dataset.train.images).features
    assert np.mean(train**2) == pytest.approx(1)


def test_floor_and_ceilings_are_in_order(scorer, dataset):
    floor = scorer.floor()
    train = scorer.score(dataset.train.images)
    gaussian, noise = scorer.score(scorer.gaussian()), scorer.score(scorer.noise())
    assert scorer.n == 300
    assert floor["fd"] < 1.5 * train["fd"] < 2 * gaussian["fd"] < noise["fd"]
    assert abs(floor["kid"]) < 0.02 < gaussian["kid"] < noise["kid"]
    assert floor["confident"] > 0.9 > gaussian["confident"]


def test_gaussian_has_the_moments_of_the_training_images(scorer, dataset):
    pool = scorer.gaussian()
    assert pool.shape == (400, 8, 8, 1) and pool.dtype == np.uint8
    # Clipping moves the mean, so central pixels, which are far from black, are compared.
    centre = (slice(None), slice(2, 6), slice(3, 5))
    np.testing.assert_allclose(pool[centre].mean(0), dataset.train.images[centre].mean(0), atol=25)


def test_copies_are_seen(scorer, dataset):
    copies = scorer.nearest(dataset.train.images[:200])
    held_out = scorer.nearest(dataset.test.images)
    assert copies["median"] == 0 and held_out["median"] > 1.5


def test_the_second_sigma_is_the_one_with_least_validation_distance(scorer, dataset):
    levels = np.geomspace(0.1, 20, 16).round(3)

    def draw(sigmas):
        assert sigmas[0] == 80.0
        good = sigmas[1] == levels[9]
        return dataset.train.images[:400] if good else scorer.noise()

    assert choose_second_sigma(scorer.validation_distance, draw, 80.0, 0.002) == levels[9]


def test_score_model_and_its_table(scorer, dataset):
    def draw(sigmas):
        return dataset.train.images[:400] if len(sigmas) == 2 else scorer.noise()

    scores = score_model(scorer, draw, {"one_step": (80.0,), "two_step": (80.0, 0.5)})
    assert scores["n"] == 300
    assert scores["one_step"] == scores["noise"]
    assert scores["two_step"]["fd"] < 3 * scores["floor"]["fd"]
    assert scores["nearest_training_image"]["two_step"]["median"] == 0
    text = table(scores)
    assert "one_step" in text and f"{scores['floor']['fd']:.3f}" in text
    assert "second sigma" not in text and "second sigma 0.5" in table(
        {**scores, "second_sigma": 0.5}
    )


def test_errors(scorer, dataset):
    with pytest.raises(ict_jax.ArgumentError, match=r"10 samples were given and n=300"):
        scorer.score(dataset.train.images[:10])
    with pytest.raises(ict_jax.ArgumentError, match=r"no candidate between 0.1 and 20 lies in"):
        choose_second_sigma(scorer.validation_distance, lambda s: None, 0.09, 0.002)


def test_scores_need_held_out_images():
    digits = load_data("digits")
    few = digits._replace(test=digits.test.read(np.arange(3)))
    arguments = {"sigma_min": 0.002, "sigma_max": 80.0, "second_sigma": 2.0}
    Evaluator(few, None, **arguments)
    with pytest.raises(ict_jax.ArgumentError, match="200 images for validation and 3 for test"):
        Evaluator(few, None, **arguments, at_end=True)


def test_large_images_are_averaged_down():
    model = Classifier(3)
    small = np.random.default_rng(0).standard_normal((2, 32, 32, 1)).astype(np.float32)
    params = model.init(jax.random.key(0), small)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    for a, b in zip(model.apply(params, small), model.apply(params, large), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
