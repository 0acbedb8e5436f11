"""Whole runs in seconds: resume, interruption, divergence, starting from another run."""

import functools
import json
import os
import signal

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ict_jax
from ict_jax import build, checkpoints, loop, metrics
from ict_jax.stop import Interrupted
from ict_jax.training import parallel
from tests.helpers import smoke_config


def final(workdir, step=None):
    """Everything a checkpoint holds, as NumPy arrays."""
    config = build.resolve(smoke_config(), build.build_dataset(smoke_config()))
    abstract = jax.eval_shape(
        lambda: loop.Progress(build.build_init_state(config)(), loop.empty_metrics())
    )
    whole = parallel.replicated(parallel.make_mesh(num_devices=1))
    abstract = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole), abstract
    )
    store = checkpoints.Checkpoints(workdir / "checkpoints")
    step = store.latest_step() if step is None else step
    state, window = store.restore(step, abstract.state, abstract.window)
    store.close()
    return jax.tree.map(
        lambda a: np.asarray(
            jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a
        ),
        (state, window),
    )


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def logged(workdir):
    """The last logged value of each training scalar at each step."""
    events = EventAccumulator(str(workdir))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("train/")]
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}


def one_device(**changes):
    config = smoke_config(**changes)
    config.mesh.num_devices = 1
    return config


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Sends this process a signal while the batch of a step is being made."""
    original, calls = parallel.put_batch, []

    def put_batch(batch, mesh):
        calls.append(1)
        if len(calls) == step + 1:  # the first call only compiles
            os.kill(os.getpid(), number)
        return original(batch, mesh)

    monkeypatch.setattr(parallel, "put_batch", put_batch)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    loop.train(one_device(), workdir)
    return workdir


@pytest.mark.parametrize(("step", "number"), [(7, signal.SIGTERM), (12, signal.SIGINT)])
def test_an_interrupted_run_resumes_bitwise(tmp_path, monkeypatch, whole_run, step, number):
    with monkeypatch.context() as patch:
        stop_at(patch, step, number)
        with pytest.raises(Interrupted, match=f"stopped at step {step} and saved; to resume, run"):
            loop.train(one_device(), tmp_path)
    assert checkpoints.locate(tmp_path)[1] == step
    loop.train(one_device(), tmp_path)
    assert_same(final(tmp_path), final(whole_run))
    assert logged(tmp_path) == logged(whole_run)  # step 7 is inside a logging window


def test_checkpoints_of_a_run_are_of_their_own_step(tmp_path, whole_run):
    """Saving in the background does not pick up later, donated buffers."""
    config = one_device()
    config.checkpointing.every_steps = 3
    config.checkpointing.keep_last = 20
    loop.train(config, tmp_path)
    assert_same(final(tmp_path, 20), final(whole_run))
    steps = [int(final(tmp_path, step)[0].step) for step in (3, 6, 9, 12, 15, 18, 20)]
    assert steps == [3, 6, 9, 12, 15, 18, 20]
    # A run that begins at step 3 reproduces step 6 from what was saved.
    later = tmp_path / "later"
    (later / "checkpoints").mkdir(parents=True)
    os.rename(tmp_path / "checkpoints" / "3", later / "checkpoints" / "3")
    config.checkpointing.every_steps = 6
    loop.train(config, later)
    assert_same(final(later, 6), final(tmp_path, 6))


def test_what_a_run_leaves(whole_run):
    names = {path.name for path in whole_run.iterdir()}
    assert {"config.json", "checkpoints", "samples"} <= names
    assert {path.name for path in (whole_run / "samples").iterdir()} == {
        f"{name}_{step:08d}.png" for name in ("one_step", "two_step") for step in (10, 20)
    }
    config = json.loads((whole_run / "config.json").read_text())
    assert config["precondition"]["sigma_data"] == pytest.approx(0.846, abs=1e-3)
    assert config["image_shape"] == [8, 8, 1]
    curves = logged(whole_run)
    assert set(curves["train/loss"]) == {5, 10, 15, 20}
    assert curves["train/num_scales"] == {5: 11, 10: 21, 15: 41, 20: 41}
    assert any(tag.startswith("train/loss_by_sigma/") for tag in curves)


def test_running_a_finished_run_again_changes_nothing(whole_run):
    before = final(whole_run)
    loop.train(one_device(), whole_run)
    assert_same(final(whole_run), before)


def test_evaluation_does_not_change_training_and_the_best_is_kept(tmp_path, whole_run):
    config = one_device()
    config.evaluation.update({"every_steps": 6, "num_samples": 100})
    config.checkpointing.keep_last = 1
    loop.train(config, tmp_path)
    assert_same(final(tmp_path), final(whole_run))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scores = {e.step: e.value for e in events.Scalars("eval/validation_fd")}
    assert set(scores) == {6, 12, 18}
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {20, min(scores, key=scores.get)}


def test_divergence_stops_and_saves_nothing(tmp_path):
    config = one_device()
    config.optimizer.learning_rate = 1e30
    with pytest.raises(metrics.Diverged) as caught:
        loop.train(config, tmp_path)
    assert "became NaN or infinite between steps 1 and 5" in str(caught.value)
    assert "nothing was saved after the start" in str(caught.value)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_divergence_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    """The data turns bad in step 13: whites become NaN on their way to the device."""
    original, calls = build.make_train_step, []

    def poisoned(*args, **options):
        train_step = original(*args, **options)

        def step(state, batch):
            calls.append(1)
            new, m = train_step(state, batch)
            bad = state.step == 12
            params = jax.tree.map(lambda p: jax.numpy.where(bad, jax.numpy.nan, p), new.params)
            return new.replace(params=params), m

        return step

    monkeypatch.setattr(
        build,
        "make_train_step",
        lambda bind, objective, tx, ema_decay, accumulation_steps, flip: poisoned(
            bind,
            objective,
            tx,
            ema_decay=ema_decay,
            accumulation_steps=accumulation_steps,
            flip=flip,
        ),
    )
    with pytest.raises(metrics.Diverged) as caught:
        loop.train(one_device(), tmp_path)
    assert "between steps 11 and 15" in str(caught.value)
    assert f"checkpoint {tmp_path / 'checkpoints' / '10'}" in str(caught.value)
    assert checkpoints.locate(tmp_path)[1] == 10


def test_init_from_starts_with_the_averaged_parameters(tmp_path, whole_run, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "run_steps", lambda run, progress: seen.append(progress) or progress)
    loop.train(one_device(), tmp_path, init_from=str(whole_run))
    average = final(whole_run)[0].ema_params
    assert_same(jax.device_get(seen[0].state.params), average)
    assert_same(jax.device_get(seen[0].state.ema_params), average)
    assert int(seen[0].state.step) == 0


def test_init_from_another_network_is_refused(tmp_path, whole_run):
    config = one_device()
    config.model.width = 32
    with pytest.raises(ict_jax.ArgumentError, match=r"is another network: \d+ parameters differ"):
        loop.train(config, tmp_path, init_from=str(whole_run))


def test_a_changed_config_is_refused_but_not_where_it_changes_nothing(whole_run):
    config = one_device()
    config.optimizer.learning_rate = 0.5
    config.seed = 1
    message = r"another config: optimizer.learning_rate \(0.001 -> 0.5\), seed \(0 -> 1\)"
    with pytest.raises(ict_jax.ArgumentError, match=message):
        loop.train(config, whole_run)
    config = one_device()
    config.logging.every_steps = 7
    config.checkpointing.every_steps = 3
    config.evaluation.every_steps = 9
    config.mesh.num_devices = 2
    loop.train(config, whole_run)
    loop.train(one_device(), whole_run)


def test_loaded_function_is_the_average(whole_run):
    f, config = checkpoints.load_consistency_fn(whole_run)
    params = final(whole_run)[0].ema_params
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    labels, sigma = jax.numpy.array([3, 1, 4]), jax.numpy.full(3, 2.0)
    expected = build.build_bind(config)(params, labels, None)(x, sigma)
    np.testing.assert_array_equal(f(x, sigma, labels), expected)
    np.testing.assert_array_equal(f(x, jax.numpy.full(3, 0.002), labels), x)
    with pytest.raises(ict_jax.ArgumentError, match="labels were not given and the model has 10"):
        f(x, sigma)
    sevens = functools.partial(f, labels=jax.numpy.array([7, 7]))
    images = ict_jax.sample(sevens, ict_jax.seed_keys([0, 1]), tuple(config.image_shape))
    assert images.shape == (2, 8, 8, 1)
