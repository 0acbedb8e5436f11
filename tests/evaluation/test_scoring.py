"""Scores and searches from Python, as a notebook calls them."""

import json

import jax
import numpy as np
import pytest

import ict_jax
from configs import digits
from ict_jax.checkpoints.weights import write_ema
from ict_jax.config.check import resolve
from ict_jax.config.network import build_init_params
from ict_jax.config.training import build_dataset
from ict_jax.evaluation.checkpoint import Levels, open_model, parse_labels
from ict_jax.evaluation.scoring import evaluate, search_sigmas
from ict_jax.runtime.storage import to_path
from tests.evaluation.test_scorer import EXTRACTOR


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A work directory that holds one checkpoint, of random parameters."""
    config = digits.get_config("smoke")
    config = resolve(config, build_dataset(config))
    path = tmp_path_factory.mktemp("scoring") / "run"
    write_ema(to_path(path), build_init_params(config)(jax.random.key(0)), config, 7)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_checkpoint_is_scored_by_an_extractor_of_ones_own(workdir, tmp_path):
    options = {"protocol": "train-set", "extractor": EXTRACTOR, "num_samples": 20}
    record = evaluate(workdir, **options, out=tmp_path, save_images=True)
    assert json.loads((tmp_path / "scores_train-set.json").read_text()) == record
    assert list(record["scores"]) == ["one_step", "two_step", "floor"]
    assert record["extractor"]["name"] == "projection" and not record["as_the_protocol"]
    assert record["checkpoint"].endswith("/checkpoints/7") and record["seeds"] == [0, 19]
    assert record["scores"]["floor"]["n"] == 20
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept >= {"one_step.png", "two_step.png", "real.png", "samples_2.npz"}
    assert not list((tmp_path / "evaluation").iterdir())
    fives = evaluate(workdir, **options, out=tmp_path, labels="5", levels=Levels(steps=3))
    assert list(fives["scores"]) == ["3_steps", "floor"] and fives["labels"] == "5"
    assert fives["scores"]["floor"] == record["scores"]["floor"]


def test_noise_levels_are_searched(workdir, tmp_path):
    options = {"protocol": "train-set", "extractor": EXTRACTOR, "num_samples": 8}
    schedules = search_sigmas(workdir, steps=2, **options, out=tmp_path)
    assert [len(each["sigmas"]) for each in schedules] == [1, 2]
    kept = json.loads((tmp_path / "evaluation" / "distances.json").read_text())
    assert {each["distance"] for each in schedules} <= set(kept.values())
    assert schedules[1]["distance"] < max(kept.values())
    assert json.loads((tmp_path / "sigmas.json").read_text())["schedules"] == schedules
    again = search_sigmas(workdir, steps=2, **options, out=tmp_path)
    assert again == schedules


def test_labels_of_seeds(workdir):
    model = open_model(workdir, with_data=True)
    assert parse_labels("even", range(4), model) is None
    np.testing.assert_array_equal(parse_labels("3", range(4), model), [3, 3, 3, 3])
    np.testing.assert_array_equal(parse_labels("0,9", range(2), model), [0, 9])
    assert np.bincount(parse_labels("data", range(1000), model)).min() > 80
    for labels in ("10", "1,2", "-1", "x"):
        with pytest.raises(ict_jax.ArgumentError, match=rf"--labels={labels} "):
            parse_labels(labels, range(4), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "train-set"}, "--protocol=train-set needs --extractor: inception"),
        ({"extractor": "lite0"}, "compares in the features of classifier and --extractor=lite0"),
        ({"reference": "a.npz"}, "--reference belong to other protocols than held-out"),
        ({"num_samples": 3}, "--num_samples=3 must be at least 4; 5,000 is usual"),
        ({"labels": "10"}, "--labels=10 must be classes of the model, 0 to 9"),
        ({"data_dir": "/a", "protocol": "imagenet64-adm-50k", "extractor": None}, "weights"),
    ],
)
def test_requests_that_do_not_fit(workdir, tmp_path, options, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        evaluate(workdir, out=tmp_path, **options)
