"""Drawing, resuming, references and scores, on one device and on four."""

import hashlib
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import ict_jax
from configs import digits
from ict_jax.config.check import resolve
from ict_jax.config.network import build_init_params
from ict_jax.config.sampling import build_draw, sampler_arguments
from ict_jax.config.training import build_dataset
from ict_jax.core.errors import Diverged, NotSaved
from ict_jax.data import ImageSet
from ict_jax.evaluation import references
from ict_jax.evaluation.against_set import AgainstSet, distance_name, measure
from ict_jax.evaluation.evaluator import Evaluator, SampleGrids
from ict_jax.evaluation.extractors import Extracted, Extractor
from ict_jax.evaluation.features import Collected, FeatureExtractor
from ict_jax.evaluation.grids import save_png
from ict_jax.evaluation.metrics.frechet import frechet_distance, frechet_standard_error, moments
from ict_jax.evaluation.protocols import check_training_split, find_protocol
from ict_jax.evaluation.references import Reference, compute_reference, read_reference
from ict_jax.evaluation.sampler import Sampler
from ict_jax.evaluation.score_file import score_table
from ict_jax.evaluation.scorer import PARTS, Scorer
from ict_jax.evaluation.search import DistanceCache
from ict_jax.evaluation.seed_labels import even_labels, proportional_labels
from ict_jax.training.parallel import make_mesh, replicated
from tests.helpers import full_disk


def project(weights, images):
    """Stands for a pretrained network: tanh of a projection of the mean over channels."""
    flat = images.astype(jnp.float32).mean(-1).reshape(len(images), -1) / 255
    features = jnp.tanh(flat @ weights)
    return Extracted(features, features[:, :5])


def extractor_for(pixels, name="projection"):
    weights = np.random.default_rng(0).standard_normal((pixels, 12)).astype(np.float32) / 4
    return Extractor(name, weights, project, hashlib.sha256(weights.tobytes()).hexdigest())


EXTRACTOR = extractor_for(64)


@pytest.fixture(scope="module")
def dataset():
    return build_dataset(digits.get_config("smoke"))


@pytest.fixture(scope="module")
def model(dataset):
    config = resolve(digits.get_config("smoke"), dataset)
    return config, build_init_params(config)(jax.random.key(0))


def reference_for(features, extractor=EXTRACTOR, mesh=None):
    extract = FeatureExtractor(extractor, mesh or make_mesh(), 16)
    return Reference("real", "0" * 64, len(features), moments(features), features, extract)


def scorer(
    model,
    directory,
    *,
    mesh=None,
    n=37,
    draw=None,
    extractor=EXTRACTOR,
    labels=None,
    held_out=None,
    **options,
):
    config, params = model
    mesh = mesh or make_mesh()
    rng = np.random.default_rng(1)
    reference = reference_for(rng.standard_normal((200, 12)), extractor, mesh)
    draw = draw or build_draw(config)
    return Scorer(
        Sampler(draw, mesh, **sampler_arguments(config), batch_size=16),
        jax.device_put(params, replicated(mesh)),
        AgainstSet(reference, held_out),
        range(n),
        labels,
        directory=epath.Path(directory),
        **options,
    )


def test_one_device_and_four_agree(model, tmp_path):
    """37 samples, which neither the parts nor the devices divide."""
    one = scorer(model, tmp_path / "1", mesh=make_mesh(num_devices=1), keep_images=True)
    four = scorer(model, tmp_path / "4", keep_images=True)
    sigmas = (80.0, 2.0)
    a, b = one.samples(sigmas), four.samples(sigmas)
    assert len(a.features) == len(b.images) == 37
    assert (a.images == b.images).mean() >= 0.999
    np.testing.assert_allclose(a.features, b.features, atol=1e-5)
    scores, others = (each.scores({"two_step": sigmas})["two_step"] for each in (one, four))
    name = "fd_projection"
    assert scores[name]["value"] == pytest.approx(others[name]["value"], rel=1e-4)
    assert scores["kid"]["value"] == pytest.approx(others["kid"]["value"], rel=1e-4)


def test_samples_are_those_of_the_sampler(model, tmp_path):
    config, params = model
    found = scorer(model, tmp_path, keep_images=True).samples((80.0,))
    sampler = Sampler(build_draw(config), make_mesh(), **sampler_arguments(config))
    expected = sampler(params, range(37), (80.0,))
    np.testing.assert_array_equal(found.images, expected)
    np.testing.assert_allclose(
        found.features, project(EXTRACTOR.weights, jnp.asarray(expected)).features, atol=1e-5
    )


def test_other_classes_are_other_samples(model, tmp_path):
    even = scorer(model, tmp_path, n=5)
    fives = scorer(model, tmp_path, n=5, labels=np.full(5, 5, np.int32))
    sixes = scorer(model, tmp_path, n=5, labels=np.full(5, 6, np.int32))
    assert len({each.key((80.0,)) for each in (even, fives, sixes)}) == 3


def test_distances_and_floor_are_of_as_many_as_they_say(model, dataset, tmp_path):
    few = scorer(model, tmp_path, n=20, held_out=dataset.validation.images[:9])
    features, real = few.samples((80.0,)).features, few.comparison.reference.moments
    expected = frechet_distance(moments(features[:9]), real)
    rows = few.scores({"one_step": (80.0,)})
    found = rows["one_step"]["distance_of_as_many_as_floor"]
    assert found == pytest.approx(expected, rel=1e-6)
    assert (rows["one_step"]["n"], rows["floor"]["n"]) == (20, 9)
    whole = frechet_distance(moments(features), real)
    assert few.distance((80.0,)) == pytest.approx(whole, rel=1e-6)
    assert not list(tmp_path.iterdir())  # a search keeps no samples


def test_fewer_samples_than_parts_and_their_images(model, tmp_path):
    few = scorer(model, tmp_path / "kept", n=5, keep_images=True)
    found = few.samples((80.0,))
    assert len(found.features) == 5
    few.save_images((80.0,), epath.Path(tmp_path / "samples.npz"))
    with np.load(tmp_path / "samples.npz") as file:
        np.testing.assert_array_equal(file["arr_0"], found.images)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "samples.npz"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-30],
        lambda content: content.replace(b"features.npy", b"featurez.npy"),
        lambda content: content.replace(b"logits.npy", b"logitz.npy"),
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    ],
)
def test_a_damaged_part_is_drawn_again(model, tmp_path, damage, capsys):
    made = scorer(model, tmp_path, keep_images=True)
    expected = made.samples((80.0,))
    part = next(tmp_path.glob("*/part_3.npz"))
    whole = part.read_bytes()
    part.write_bytes(damage(whole))
    for again in (made.samples((80.0,)), made.samples((80.0,))):
        jax.tree.map(np.testing.assert_array_equal, again, expected)
    assert part.read_bytes() == whole
    assert capsys.readouterr().out.count("part_3.npz is damaged") == 1


def test_parts_of_other_sizes_are_drawn_again(model, tmp_path):
    made = scorer(model, tmp_path)
    expected = made.samples((80.0,))
    parts = sorted(tmp_path.glob("*/part_*.npz"), key=lambda path: len(path.read_bytes()))
    parts[-1].write_bytes(parts[0].read_bytes())
    jax.tree.map(np.testing.assert_array_equal, made.samples((80.0,)), expected)


def test_a_full_disk_is_told_and_what_was_drawn_is_kept(model, tmp_path):
    expected = scorer(model, tmp_path / "whole", keep_images=True).samples((80.0,))
    with full_disk(tmp_path / "disk", kilobytes=20) as disk:
        small = scorer(model, disk, keep_images=True)
        with pytest.raises(NotSaved, match=r"part_.*cannot be written \(No space left.*make room"):
            small.samples((80.0,))
        names = {path.name for path in Path(disk).rglob("*") if path.is_file()}
        assert names and all(name.startswith("part_") for name in names)
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        jax.tree.map(np.testing.assert_array_equal, small.samples((80.0,)), expected)
        filling = disk / "filling"
        filling.write_bytes(bytes(2**20 - 400 * 2**10))
        distances = DistanceCache(disk / "distances.json")
        with pytest.raises(NotSaved, match=r"distances.json cannot be written"):
            distances.get("x" * 600_000, lambda: 1.0)
        with pytest.raises(NotSaved, match=r"grid.png cannot be written"):
            noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
            save_png(disk / "grid.png", noise)
        assert {path.name for path in disk.iterdir() if path.is_file()} == {"filling"}


class Stopped(Exception):
    """Stands for an interruption."""


def test_an_interrupted_evaluation_goes_on(model, tmp_path, monkeypatch):
    expected = scorer(model, tmp_path / "whole").samples((80.0,))
    broken = scorer(model, tmp_path / "broken")
    batches, drawn = broken._sampler.batches, []

    def some(params, seeds, *rest):
        drawn.append(list(seeds))
        if len(drawn) == 4:
            raise Stopped
        return batches(params, seeds, *rest)

    monkeypatch.setattr(broken._sampler, "batches", some)
    with pytest.raises(Stopped):
        broken.samples((80.0,))
    again = broken.samples((80.0,))
    np.testing.assert_array_equal(again.features, expected.features)
    assert drawn[3] == drawn[4] and len(drawn) == PARTS + 1  # only what was cut off twice
    broken.samples((80.0,))
    assert len(drawn) == PARTS + 1
    broken.clear((80.0,))
    assert not list((tmp_path / "broken").iterdir())


def test_what_is_kept_belongs_to_one_model_and_schedule(model, tmp_path):
    config, params = model
    other = config, jax.tree.map(lambda a: a + 1, params)
    first = scorer(model, tmp_path)
    keys = [
        first.key((80.0,)),
        first.key((80.0, 2.0)),
        scorer(other, tmp_path).key((80.0,)),
        scorer(model, tmp_path, n=36).key((80.0,)),
        scorer(model, tmp_path, extractor=EXTRACTOR._replace(digest="1")).key((80.0,)),
    ]
    assert len(set(keys)) == len(keys)
    assert scorer(model, tmp_path).key((80.0,)) == keys[0]


def test_samples_that_are_not_finite_are_refused(model, tmp_path):
    def draw(params, keys, labels, sigmas):
        return jnp.full((len(keys), 8, 8, 1), jnp.nan)

    with pytest.raises(Diverged, match="4 of 4 samples are NaN or infinite: the model"):
        scorer(model, tmp_path, draw=draw, n=40).samples((80.0,))
    assert not list(tmp_path.iterdir())


def test_references_are_kept_by_content(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mesh = make_mesh()

    def found(data=dataset.train, extractor=EXTRACTOR):
        return compute_reference("digits", data, FeatureExtractor(extractor, mesh))

    first = found()
    features = np.asarray(project(EXTRACTOR.weights, jnp.asarray(dataset.train.images)).features)
    assert first.size == len(features)
    np.testing.assert_allclose(first.moments.mean, features.mean(0), atol=1e-6)
    np.testing.assert_allclose(first.moments.covariance, np.cov(features.T), atol=1e-6)
    assert sorted(first.features.sum(1)) == pytest.approx(sorted(features.sum(1)), abs=1e-4)
    computed, compute = [], references._compute

    def counted(*arguments):
        computed.append(arguments)
        return compute(*arguments)

    monkeypatch.setattr(references, "_compute", counted)
    again = found()
    assert not computed and again.digest == first.digest
    np.testing.assert_array_equal(again.moments.covariance, first.moments.covariance)
    changed = dataset.train.images.copy()
    changed[5, 3, 3, 0] ^= 1
    assert found(ImageSet(changed, dataset.train.labels)).digest != first.digest
    found(extractor=EXTRACTOR._replace(digest="another"))
    assert len(computed) == 2
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    found()
    assert len(computed) == 3


def reference_file(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "mu": rng.standard_normal(12),
        "sigma": np.eye(12),
        "arr_0": rng.integers(0, 256, (20, 16, 16, 3), np.uint8),
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


def test_reference_files(tmp_path):
    path, extractor = tmp_path / "reference.npz", extractor_for(256)
    arrays = reference_file(path)
    found = read_reference(str(path), FeatureExtractor(extractor, make_mesh()), (16, 16, 3))
    np.testing.assert_array_equal(found.moments.mean, arrays["mu"])
    assert found.features.shape == (20, 12) and found.size is None
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mu": None}, "is not a reference file"),
        ({"mu": np.zeros(7)}, r"statistics of \(7,\) and \(12, 12\), expected \(12,\)"),
        ({"arr_0": np.zeros((20, 8, 8, 3), np.uint8)}, r"expected uint8 \[n, 16, 16, 3\]"),
        ({"arr_0": np.zeros((20, 16, 16, 3))}, "of float64, expected uint8"),
    ],
)
def test_wrong_reference_files_are_refused(changes, message, tmp_path):
    reference_file(tmp_path / "r.npz", **changes)
    with pytest.raises(ict_jax.ArgumentError, match=message):
        read_reference(
            str(tmp_path / "r.npz"), FeatureExtractor(extractor_for(256), make_mesh()), (16, 16, 3)
        )


def test_missing_and_damaged_reference_files_are_refused(tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match="is not a file; give OpenAI's VIRTUAL_imag"):
        read_reference(
            str(tmp_path / "no.npz"), FeatureExtractor(EXTRACTOR, make_mesh()), (8, 8, 3)
        )
    (tmp_path / "r.npz").write_bytes(b"no archive")
    with pytest.raises(ict_jax.ArgumentError, match="is not a reference file"):
        read_reference(str(tmp_path / "r.npz"), FeatureExtractor(EXTRACTOR, make_mesh()), (8, 8, 3))


def test_protocols():
    cifar10 = find_protocol("cifar10-train-50k")
    assert (cifar10.num_samples, cifar10.extractor) == (50_000, "inception")
    check_training_split(cifar10, "cifar10", 50_000, (32, 32, 3))
    with pytest.raises(ict_jax.ArgumentError, match="compares with 50000 training images and cif"):
        check_training_split(cifar10, "cifar10", 45_000, (32, 32, 3))
    with pytest.raises(ict_jax.ArgumentError, match=r"is for images of \(32, 32, 3\) and digits"):
        check_training_split(cifar10, "digits", 50_000, (8, 8, 1))
    with pytest.raises(ict_jax.ArgumentError, match="--protocol=fid is not known; use one of held"):
        find_protocol("fid")


def test_only_the_fid_network_gives_fid():
    assert distance_name("inception-2015-12-05") == "fid"
    assert distance_name("lite0") == "fd_lite0"


def test_every_score_has_its_uncertainty():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 4)).astype(np.float32)
    samples = Collected(features, rng.standard_normal((60, 7)).astype(np.float32), None)
    named = EXTRACTOR._replace(name="inception-2015-12-05")
    real = reference_for(rng.standard_normal((80, 4)), named)
    scores = measure(samples, real)
    assert set(scores) == {"n", "fid", "kid", "precision", "recall", "inception_score"}
    assert scores["fid"]["value"] == frechet_distance(moments(features), real.moments)
    assert all(score["standard_error"] > 0 for score in (scores["fid"], scores["kid"]))
    assert scores["kid"]["subset"] == 30
    text = score_table({"scores": {"one_step": scores}})
    assert "fid" in text and "inception_score" in text and f"{scores['fid']['value']:.4f}" in text
    few = measure(Collected(features[:4], None, None), reference_for(real.features))
    assert "at most 3" in few["warning"] and "inception_score" not in few


@pytest.mark.parametrize("law", ["standard_normal", "standard_exponential"])
def test_the_standard_error_is_the_spread_over_draws(law):
    """Of the distance of 1,000 rows, whose law need not be normal."""
    rng = np.random.default_rng(0)
    mix, other = rng.standard_normal((5, 5)), moments(rng.standard_normal((20_000, 5)))
    distances, errors = [], []
    for _ in range(200):
        features = getattr(rng, law)((1000, 5)) @ mix
        own = moments(features)
        distances.append(frechet_distance(own, other))
        errors.append(frechet_standard_error(features, own, other))
    assert np.mean(errors) == pytest.approx(np.std(distances), rel=0.15)


def test_labels_follow_the_seed():
    np.testing.assert_array_equal(even_labels(range(3, 8), 3), [0, 1, 2, 0, 1])
    counts = np.array([700, 0, 200, 100])
    labels = proportional_labels(range(1000), counts)
    found = np.bincount(labels, minlength=4)
    assert np.abs(found - counts).max() <= 3 and found[1] == 0
    np.testing.assert_array_equal(labels[40:60], proportional_labels(range(40, 60), counts))
    part = np.bincount(proportional_labels(range(500, 600), counts), minlength=4)
    assert np.abs(part - counts / 10).max() <= 3


def test_numbers_are_computed_once(tmp_path):
    path, computed = epath.Path(tmp_path / "a" / "numbers.json"), []

    def compute():
        computed.append(1)
        return 2.5

    assert DistanceCache(path).get("key", compute) == 2.5
    assert DistanceCache(path).get("key", compute) == 2.5 and len(computed) == 1
    path.write_text("{half")
    assert DistanceCache(path).get("key", compute) == 2.5 and len(computed) == 2


def evaluator(model, dataset, extractor, **options):
    config, _ = model
    sampler = Sampler(build_draw(config), make_mesh(), **sampler_arguments(config))
    grids = SampleGrids(sampler, **config.sampling)
    options = {**config.evaluation, **options, "extractor": extractor}
    return Evaluator(dataset, grids, **options)


def test_scores_while_training_by_a_pretrained_network(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "ict_jax.evaluation.evaluator.find_extractor", lambda name: EXTRACTOR._replace(name=name)
    )
    found = evaluator(model, dataset, "lite0", every_steps=5, num_samples=30)
    assert found.score_name == "fd_lite0_of_30"
    _, params = model
    sampler = Sampler(build_draw(model[0]), make_mesh(), **sampler_arguments(model[0]))
    both = [sampler(params, range(30), (80.0,)), dataset.train.images]
    ours, real = (project(EXTRACTOR.weights, jnp.asarray(images)).features for images in both)
    expected = frechet_distance(moments(ours), moments(real))
    assert found.score(params) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(
        "ict_jax.evaluation.evaluator.compute_reference", None
    )  # not asked for again
    assert found.score(params) == pytest.approx(expected, rel=1e-4)


def test_a_network_that_is_not_to_be_had_is_told_before_training(model, dataset, monkeypatch):
    monkeypatch.delenv("ICT_INCEPTION_WEIGHTS", raising=False)
    with pytest.raises(ict_jax.ArgumentError, match="FID network's weights were not found"):
        evaluator(model, dataset, "inception", every_steps=5)
    assert evaluator(model, dataset, "inception", every_steps=None).score_name == "validation_fd"
