"""The protocol held-out: scores of known pools: real images, copies, noise."""

import jax
import numpy as np
import pytest

import ict_jax
from ict_jax.data import load_data
from ict_jax.evaluation.evaluator import Evaluator
from ict_jax.evaluation.extractors import classifier
from ict_jax.evaluation.extractors.classifier import (
    Classifier,
    load_classifier,
    train_classifier,
)
from ict_jax.evaluation.features import FeatureExtractor
from ict_jax.evaluation.held_out import HeldOut
from ict_jax.evaluation.score_file import as_record, score_table
from ict_jax.evaluation.scorer import choose_second_sigma
from ict_jax.training.parallel import make_mesh

DISTANCE = "fd_classifier"


@pytest.fixture(scope="module")
def dataset():
    return load_data("digits")


@pytest.fixture(scope="module")
def held_out(dataset):
    return HeldOut(dataset, make_mesh(), num_samples=400)


def value(row, name=DISTANCE):
    return row[name]["value"]


def test_classifier_classifies_and_is_deterministic(dataset, held_out):
    extractor = held_out.extract.extractor
    assert held_out.record()["extractor"]["accuracy"] > 0.96
    again = train_classifier(dataset)
    assert (again.digest, again.scale) == (extractor.digest, extractor.scale)
    train = held_out.extract(dataset.train.images).features / extractor.scale
    assert np.mean(train**2) == pytest.approx(1)


def test_the_classifier_is_trained_once(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(classifier, "STEPS", 3)
    trained = []

    def train(dataset):
        trained.append(dataset)
        return train_classifier(dataset)

    monkeypatch.setattr(classifier, "train_classifier", train)
    first, cached = load_classifier(dataset), load_classifier(dataset)
    assert len(trained) == 1 and (cached.digest, cached.scale) == (first.digest, first.scale)
    images = dataset.test.images[:5]
    outputs = [jax.jit(each.apply)(each.weights, images) for each in (first, cached)]
    jax.tree.map(np.testing.assert_array_equal, *outputs)
    # Other labels are another data set; a damaged file is not used.
    relabelled = dataset.train._replace(labels=dataset.train.labels[::-1])
    load_classifier(dataset._replace(train=relabelled))
    assert len(trained) == 2
    for file in (tmp_path / "ict_jax" / "classifiers").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert load_classifier(dataset).digest == first.digest and len(trained) == 3
    assert "is damaged" in capsys.readouterr().out


def test_features_do_not_depend_on_the_batch_or_the_devices(dataset, held_out):
    images, extractor = dataset.test.images[:37], held_out.extract.extractor
    expected = held_out.extract(images)
    other = FeatureExtractor(extractor, make_mesh(num_devices=1), 10)(images)
    np.testing.assert_allclose(other.features, expected.features, atol=1e-5)
    np.testing.assert_array_equal(other.images, images)


def test_floor_and_baselines_are_in_order(held_out, dataset):
    rows = held_out.baselines()
    train = held_out.scores(held_out.extract(dataset.train.images))
    floor, gaussian, noise = (rows[name] for name in ("floor", "gaussian", "noise"))
    assert held_out.n == floor["n"] == 300
    assert 0.1 < value(floor) < 1.5 * value(train) < 2 * value(gaussian) < value(noise)
    assert abs(value(floor, "kid")) < 0.02 < value(gaussian, "kid") < value(noise, "kid")
    assert value(floor, "confident") > 0.9 > value(gaussian, "confident")
    nearest = [row["nearest_training_image"]["median"] for row in (train, floor)]
    assert nearest[0] == 0 and nearest[1] > 1.5  # copies are seen


def test_gaussian_has_the_moments_of_the_training_images(held_out, dataset):
    pool = held_out.gaussian()
    assert pool.shape == (400, 8, 8, 1) and pool.dtype == np.uint8
    # Clipping moves the mean, so central pixels, which are far from black, are compared.
    centre = (slice(None), slice(2, 6), slice(3, 5))
    np.testing.assert_allclose(pool[centre].mean(0), dataset.train.images[centre].mean(0), atol=25)


def test_the_second_sigma_is_the_one_with_least_distance():
    levels = np.geomspace(0.1, 20, 16).round(3)

    def distance(sigmas):
        assert sigmas[0] == 80.0
        return abs(sigmas[1] - levels[9])

    assert choose_second_sigma(distance, 80.0, 0.002) == levels[9]


def test_its_table_has_multiples_of_the_floor(held_out, dataset):
    rows = held_out.baselines() | {"one_step": held_out.scores(held_out.extract(held_out.noise()))}
    assert rows["one_step"] == rows["noise"]
    text = score_table({"scores": rows})
    ratio = value(rows["noise"]) / value(rows["floor"])
    assert f"{'noise':10} {300:>7,} {ratio:8.2f} " in text
    assert f"{value(rows['floor']):.4f} +- " in text and "(median): floor 2." in text


OLD = {
    "n": 300,
    "splits": 20,
    "dataset": "digits",
    "classifier_accuracy": 0.985,
    "one_step": {"fd": 0.5, "fd_std": 0.1, "kid": 0.02, "kid_std": 0.01, "confident": 0.97},
    "floor": {"fd": 0.4, "fd_std": 0.1, "kid": 0.0, "kid_std": 0.01, "confident": 0.96},
    "nearest_training_image": {"one_step": {"median": 1.8}, "held_out": {"median": 2.1}},
    "step": 12000,
    "second_sigma": 3.42,
}


def test_scores_of_the_first_versions_are_read():
    record = as_record(OLD)
    assert (record["protocol"], record["step"], record["second_sigma"]) == ("held-out", 12000, 3.42)
    assert record["reference"] == {"name": "digits, test split", "n": 300, "splits": 20}
    floor = record["scores"]["floor"]
    assert floor["fd_classifier"] == {"value": 0.4, "std_of_splits": 0.1}
    assert floor["nearest_training_image"] == {"median": 2.1}
    assert "1.25" in score_table(record) and as_record(record) == record
    by_protocol = {"scores": {"one step": {"n": 5}, "two steps": {"n": 5}, "real": {"n": 4}}}
    assert list(as_record(by_protocol)["scores"]) == ["one_step", "two_step", "floor"]


def test_errors(held_out, dataset):
    few = held_out.extract(dataset.train.images[:10])
    with pytest.raises(ict_jax.ArgumentError, match=r"10 samples were given and n=300"):
        held_out.scores(few)
    with pytest.raises(ict_jax.ArgumentError, match=r"no candidate between 0.1 and 20 lies in"):
        choose_second_sigma(lambda sigmas: 0.0, 0.09, 0.002)


def test_scores_need_held_out_images():
    digits = load_data("digits")
    few = digits._replace(test=digits.test.read(np.arange(3)))
    Evaluator(few, None)
    with pytest.raises(ict_jax.ArgumentError, match="200 images for validation and 3 for test"):
        Evaluator(few, None, at_end=True)


def test_large_images_are_averaged_down():
    model = Classifier(3)
    small = np.random.default_rng(0).standard_normal((2, 32, 32, 1)).astype(np.float32)
    params = model.init(jax.random.key(0), small)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    for a, b in zip(model.apply(params, small), model.apply(params, large), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
