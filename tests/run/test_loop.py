"""Whole runs in seconds: resume, interruption, divergence, starting from another run."""

import dataclasses
import errno
import functools
import gc
import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ict_jax
from ict_jax import checkpoints
from ict_jax.checkpoints import directory, integrity, store
from ict_jax.config import training
from ict_jax.config.check import resolve
from ict_jax.config.network import build_bind, build_init_params
from ict_jax.config.training import build_dataset, build_init_state, make_train_step
from ict_jax.core.errors import NotSaved
from ict_jax.run import log, loop, setup
from ict_jax.run.provenance import read_starts
from ict_jax.runtime import locks, storage
from ict_jax.runtime.preemption import Interrupted
from ict_jax.training import parallel
from tests.helpers import smoke_config


def final(workdir, step=None):
    """Everything a checkpoint holds, as NumPy arrays."""
    config = resolve(smoke_config(), build_dataset(smoke_config()))
    abstract = jax.eval_shape(
        lambda: setup.Progress(build_init_state(config)(), loop.empty_metrics())
    )
    whole = parallel.replicated(parallel.make_mesh(num_devices=1))
    abstract = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole), abstract
    )
    saved = store.Checkpoints(workdir / "checkpoints", scored=False)
    step = saved.latest_step() if step is None else step
    state, window = saved.restore(step, abstract.state, abstract.window)
    saved.close()
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
    """Sends this process a signal before a step of the run."""
    original = loop.feed

    def feed(*arguments):
        for count, fed in enumerate(original(*arguments), start=1):
            if count == step:
                os.kill(os.getpid(), number)
            yield fed

    monkeypatch.setattr(loop, "feed", feed)


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
    assert checkpoints.locate(tmp_path).name == str(step)
    loop.train(one_device(), tmp_path)
    assert_same(final(tmp_path), final(whole_run))
    assert logged(tmp_path) == logged(whole_run)  # step 7 is inside a logging window
    starts = read_starts(epath.Path(tmp_path))
    assert [start["step"] for start in starts] == [0, step]
    assert starts[0]["versions"]["jax"] == jax.__version__


def test_batches_read_ahead_train_the_same_and_resume_in_an_epoch(tmp_path, monkeypatch, whole_run):
    config = one_device()
    config.pipeline.on_device = False
    with monkeypatch.context() as patch:
        stop_at(patch, 11)
        with pytest.raises(Interrupted):
            loop.train(config, tmp_path)
    loop.train(config, tmp_path)
    assert_same(final(tmp_path), final(whole_run))


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
    assert {"config.json", "data.png", "checkpoints", "samples"} <= names
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
    with pytest.raises(log.Diverged) as caught:
        loop.train(config, tmp_path)
    assert "became NaN or infinite between steps 1 and 5" in str(caught.value)
    assert "nothing was saved after the start" in str(caught.value)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("step", "between"), [(13, "11 and 15"), (10, "6 and 10"), (20, "16 and 20")]
)
def test_divergence_names_the_last_good_checkpoint(tmp_path, monkeypatch, step, between):
    """The update of a step turns the parameters into NaN; 10 and 20 are steps that save."""
    original = make_train_step

    def poisoned(*args, **options):
        train_step = original(*args, **options)

        def step_and_poison(state, batch):
            bad = state.step == step - 1
            poison = jax.tree.map(
                lambda p: jax.numpy.where(bad, jax.numpy.nan, p) if p.ndim else p, state.opt_state
            )
            return train_step(dataclasses.replace(state, opt_state=poison), batch)

        return step_and_poison

    monkeypatch.setattr(
        training,
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
    config = one_device()
    config.checkpointing.every_steps = 5
    with pytest.raises(log.Diverged) as caught:
        loop.train(config, tmp_path)
    good = (step - 1) // 5 * 5
    assert f"between steps {between}" in str(caught.value)
    assert f"checkpoint {tmp_path / 'checkpoints' / str(good)}" in str(caught.value)
    assert checkpoints.locate(tmp_path).name == str(good)
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(final(tmp_path)[0].params))


def test_reports_are_fetched_after_the_next_step_was_dispatched(tmp_path, monkeypatch):
    events, original, report = [], loop.compile_step, log.RunLog.report

    def compile_step(run, progress, fed):
        advance, flops = original(run, progress, fed)

        def noted(state, window, fed):
            events.append(("dispatch", len([e for e in events if e[0] == "dispatch"]) + 1))
            return advance(state, window, fed)

        return noted, flops

    def noted_report(self, step, *args):
        events.append(("report", step))
        return report(self, step, *args)

    monkeypatch.setattr(loop, "compile_step", compile_step)
    monkeypatch.setattr(log.RunLog, "report", noted_report)
    loop.train(one_device(), tmp_path)
    assert events.index(("report", 5)) == events.index(("dispatch", 6)) + 1
    assert events.index(("report", 15)) == events.index(("dispatch", 16)) + 1


def test_the_best_checkpoint_survives_a_resume(tmp_path, monkeypatch):
    scores = iter([1.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(
        "ict_jax.evaluation.evaluator.Evaluator.score", lambda self, params: next(scores)
    )
    config = one_device()
    config.evaluation.every_steps = 5
    config.checkpointing.keep_last = 1
    with monkeypatch.context() as patch:
        stop_at(patch, 12)
        with pytest.raises(Interrupted):
            loop.train(config, tmp_path)
    loop.train(config, tmp_path)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"5", "20"}


def test_a_stop_at_the_last_step_leaves_the_scores_to_the_next_start(tmp_path, monkeypatch):
    config = one_device()
    config.evaluation.at_end = True
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        with pytest.raises(Interrupted, match="to score the run, run the same command again"):
            loop.train(config, tmp_path)
    assert checkpoints.locate(tmp_path).name == "20"
    scored = []
    monkeypatch.setattr(loop, "write_scores", lambda *args: scored.append(args))
    loop.train(config, tmp_path)
    assert len(scored) == 1


def test_two_runs_in_one_directory_are_refused(tmp_path):
    message = rf"in use by the run with process id {os.getpid()}; wait until it ends"
    with locks.locked_directory(tmp_path, "--workdir"):
        with pytest.raises(ict_jax.ArgumentError, match=message):
            loop.train(one_device(), tmp_path)
    loop.train(one_device(), tmp_path)


@pytest.fixture
def copied(tmp_path, whole_run):
    """The checkpoints of a finished run, to be damaged, and the newest one's directory."""
    shutil.copytree(whole_run / "checkpoints", tmp_path / "checkpoints")
    opened = store.Checkpoints(tmp_path / "checkpoints", scored=False)
    yield opened, tmp_path / "checkpoints" / "20"
    opened.close()


def lose_fingerprint_of_state(step):
    path = step / "fingerprint" / "metadata"
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k == "ema"})
    )


DAMAGED, OTHER = integrity.Damaged, ict_jax.ArgumentError
STATES = {
    "state lost": (
        lambda step: None,
        DAMAGED,
        "checkpoints/20 is damaged: it has lost its state; del",
    ),
    "of imported weights": (lose_fingerprint_of_state, OTHER, "has no state: if it is of imported"),
    "of unknown origin": (lambda step: shutil.rmtree(step / "fingerprint"), OTHER, "has no state"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_checkpoint_without_a_state_is_damaged_or_of_imported_weights(copied, case):
    opened, step = copied
    change, error, message = STATES[case]
    shutil.rmtree(step / "state")
    change(step)
    with pytest.raises(OTHER, match=message) as caught:
        opened.config(20)
    assert type(caught.value) is error


@pytest.mark.parametrize("item", ["fingerprint", "config"])
def test_a_list_where_names_are_expected_is_damage(copied, item):
    opened, step = copied
    (step / item / "metadata").write_text("[1]")
    with pytest.raises(DAMAGED, match=f"is damaged: {item} is not a JSON object; delete that"):
        opened.config(20)


def test_a_checkpoint_without_fingerprints_is_called_unchecked(copied, capsys):
    opened, step = copied
    shutil.rmtree(step / "fingerprint")
    assert opened.config(20)["batch_size"] == 32
    checkpoints.load_ema(step)
    assert "has no fingerprint: it could not be verified" in capsys.readouterr().out


def test_a_checkpoint_made_before_a_key_was_there_is_read(copied):
    _, step = copied
    shutil.rmtree(step / "fingerprint")
    stored = json.loads((step / "config/metadata").read_text())
    del stored["matmul_precision"]
    (step / "config/metadata").write_text(json.dumps(stored))
    f, config = checkpoints.load_consistency_fn(step)
    assert "matmul_precision" not in config
    x = jax.random.normal(jax.random.key(0), (2, *config.image_shape))
    assert f(x, jax.numpy.ones(2), jax.numpy.zeros(2, int)).shape == x.shape


PASSING = [
    ValueError("PERMISSION_DENIED: Error reading local file [OS error 13: EACCES]"),
    ValueError("UNAVAILABLE: Error reading gs://b/c"),
    ValueError("Error opening: DEADLINE_EXCEEDED while reading"),
    ValueError("INTERNAL: read failed [OS error 5: EIO Input/output error]"),
    OSError(errno.ESTALE, "Stale file handle"),
    PermissionError(errno.EACCES, "Permission denied"),
    ConnectionResetError(),
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    ValueError("RESOURCE_EXHAUSTED: Failed to open [OS error 24: EMFILE Too many open files]"),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_cannot_be_read_now_is_not_damaged(copied, monkeypatch, error):
    opened, step = copied

    def restore(*_, **__):
        raise error

    monkeypatch.setattr(integrity.ocp.Checkpointer, "restore", restore)
    message = r"checkpoints/20 could not be read now \(.*check its permissions, the network"
    with pytest.raises(OTHER, match=message):
        opened.read_newest(opened.config)
    assert step.is_dir() and not (step.parent.parent / directory.DAMAGED).exists()


def test_a_directory_that_cannot_be_looked_at_is_not_lost(copied, monkeypatch):
    """To Orbax it is not there."""
    opened, step = copied
    os.rename(step / "config", step / "hidden")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("hidden"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for act in (lambda: opened.read_newest(opened.config), lambda: checkpoints.locate(step)):
        with pytest.raises(OTHER, match=r"could not be read now \(PermissionError: .*check its"):
            act()
    assert (step / "hidden").is_dir()


ERRORS = [ValueError("NOT_FOUND: x"), FileNotFoundError(errno.ENOENT, "gone"), KeyError("ema")]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_what_is_lost_is_damaged(copied, error):
    _, step = copied
    shutil.rmtree(step / "ema")
    with (
        pytest.raises(DAMAGED, match="cannot be read"),
        integrity.translate_read_errors(storage.to_path(step)),
    ):
        raise error


def refused(opened, step, act, message):
    """What `act` raises calls nothing damaged, advises to delete nothing, and nothing is moved."""
    with pytest.raises(OTHER, match=message) as caught:
        opened.read_newest(act)
    assert type(caught.value) is OTHER and "delete" not in str(caught.value)
    assert not (step.parent.parent / directory.DAMAGED).exists()


@pytest.mark.parametrize("error", [*ERRORS, RuntimeError("a bug"), AssertionError()], ids=str)
def test_what_stops_a_reader_of_whole_bytes_is_no_damage(copied, error):
    opened, step = copied

    def read(_):
        with integrity.translate_read_errors(storage.to_path(step)):
            raise error

    message = f"20 is intact but was not read as expected .{type(error).__name__}"
    refused(opened, step, read, message)
    assert step.is_dir()


@pytest.mark.parametrize(
    "error", [ImportError("no zstd"), AttributeError("x"), TypeError()], ids=str
)
def test_where_no_checkpoint_can_be_read_none_is_damaged(copied, monkeypatch, error):
    opened, step = copied

    def restore(*_, **__):
        raise error

    monkeypatch.setattr(integrity.ocp.Checkpointer, "restore", restore)
    refused(opened, step, opened.config, "and nor could one that was just written")
    assert step.is_dir()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dtype, shape", [("float64", None), ("bfloat16", None), (None, (7, 5))])
def test_other_dtypes_and_shapes_are_no_damage(copied, monkeypatch, dtype, shape):
    """As with JAX_ENABLE_X64, or a network that the code makes otherwise now."""
    opened, step = copied
    init = build_init_params

    def changed(config):
        def other(key):
            return jax.tree.map(
                lambda a: jax.numpy.zeros(shape or a.shape, dtype or a.dtype), init(config)(key)
            )

        return other

    monkeypatch.setattr("ict_jax.checkpoints.weights.build_init_params", changed)
    with jax.enable_x64(dtype == "float64"):
        refused(opened, step, lambda _: checkpoints.load_ema(step), "20 is intact but was not read")
    monkeypatch.undo()
    checkpoints.load_ema(step)
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("secs", [0, 0.5])
def test_a_checkpoint_that_is_removed_while_it_is_read_is_no_damage(copied, monkeypatch, secs):
    opened, step = copied
    shutil.rmtree(step / "ema")
    read = integrity._is_as_saved

    def remove_and_read(path):
        threading.Timer(secs, shutil.rmtree, [step]).start()
        return read(path / "ema")

    monkeypatch.setattr(integrity, "_is_as_saved", remove_and_read)

    def load(_):
        with integrity.translate_read_errors(storage.to_path(step)):
            raise FileNotFoundError(errno.ENOENT, "gone")

    refused(opened, step, load, "20 was removed while it was read, .* run the same command again")
    gc.collect()


def test_a_directory_of_checkpoints_is_never_advised_to_be_deleted(copied):
    opened, step = copied
    (step / "metrics").mkdir()
    (step / "metrics" / "metrics").write_text("{")

    def reopen(_):
        store.Checkpoints(storage.to_path(step.parent), scored=True)

    refused(opened, step, reopen, "checkpoints cannot be read .JSONDecodeError")


@pytest.mark.parametrize("name", ["config.json", "data.png"])
def test_a_directory_in_the_place_of_a_file(tmp_path, name):
    (tmp_path / name).mkdir()
    message = rf"/{name} cannot be written \(Is a directory\); make room or fix its directory"
    with pytest.raises(NotSaved, match=message):
        loop.train(one_device(), tmp_path)


def flip_bits(path):
    """One in a thousand bytes: a single one may lie in a part that nothing reads."""
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 1000):
        content[place] ^= 1
    path.write_bytes(content)


def change_a_number(path):
    text = path.read_text()
    assert '"p_mean": -1.1' in text
    path.write_text(text.replace('"p_mean": -1.1', '"p_mean": -1.2'))


DAMAGES = {
    "ema lost": lambda step: shutil.rmtree(step / "ema"),
    "config lost": lambda step: shutil.rmtree(step / "config"),
    "config changed": lambda step: change_a_number(step / "config" / "metadata"),
    "state cut off": lambda step: os.truncate(largest(step / "state"), 1000),
    "state changed": lambda step: flip_bits(largest(step / "state")),
    "ema changed": lambda step: flip_bits(largest(step / "ema")),
}
QUICK_DAMAGES = ("config changed", "state cut off", "ema changed")


def largest(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


# What Orbax leaves of a read that failed complains when it is collected, so that is done here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [pytest.param(d, marks=[pytest.mark.slow] * (d not in QUICK_DAMAGES)) for d in DAMAGES],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    tmp_path, whole_run, capsys, damage
):
    workdir = tmp_path / "w"
    shutil.copytree(whole_run, workdir)
    DAMAGES[damage](workdir / "checkpoints" / "20")
    if damage in ("ema changed", "config changed"):
        with pytest.raises(ict_jax.ArgumentError, match=r"checkpoints/20 (cannot be|is damaged)"):
            checkpoints.load_ema(workdir)
    loop.train(one_device(), workdir)
    said = capsys.readouterr().out
    assert f"WARNING: the checkpoint {workdir / 'checkpoints' / '20'} " in said
    assert f"; it was moved to {workdir / 'damaged_checkpoints' / '20'}\n" in said
    assert "delete that directory" not in said
    assert "resuming from step 10" in said
    assert_same(final(workdir), final(whole_run))
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_with_damaged_checkpoints_only_does_not_begin_anew(tmp_path, whole_run):
    workdir = tmp_path / "w"
    shutil.copytree(whole_run, workdir)
    for step in ("10", "20"):
        shutil.rmtree(workdir / "checkpoints" / step / "ema")
    for _ in range(2):
        with pytest.raises(OTHER, match=r"every checkpoint .* was damaged, those of .* \[10, 20\]"):
            loop.train(one_device(), workdir)
        assert not list((workdir / "checkpoints").iterdir())
    os.rename(workdir / "damaged_checkpoints" / "10", workdir / "checkpoints" / "10")
    shutil.copytree(whole_run / "checkpoints/10/ema", workdir / "checkpoints/10/ema")
    loop.train(one_device(), workdir)
    assert_same(final(workdir), final(whole_run))
    gc.collect()


def test_a_work_directory_whose_name_is_a_pattern(tmp_path, whole_run, capsys):
    workdir = tmp_path / "[a]*\\b" / "run[1]?"
    loop.train(one_device(), workdir)
    shutil.rmtree(workdir / "checkpoints" / "20")
    loop.train(one_device(), workdir)
    assert "resuming from step 10" in capsys.readouterr().out
    assert_same(final(workdir), final(whole_run))
    assert [path.name for path in tmp_path.iterdir()] == ["[a]*\\b"]


def test_a_directory_named_by_a_number_is_a_work_directory(tmp_path, whole_run):
    os.symlink(whole_run, tmp_path / "1234")
    assert checkpoints.locate(tmp_path / "1234").name == "20"
    assert checkpoints.locate(tmp_path / "1234" / "checkpoints" / "10").name == "10"
    with pytest.raises(ict_jax.ArgumentError, match="is step 10 and step 20 was asked for"):
        checkpoints.locate(tmp_path / "1234" / "checkpoints" / "10", 20)


def test_init_from_starts_with_the_averaged_parameters(tmp_path, whole_run, monkeypatch):
    seen = []

    def run_steps(run, progress, stop):
        seen.append(progress)
        raise Interrupted

    monkeypatch.setattr(loop, "run_steps", run_steps)
    config = one_device()
    config.init_from = str(whole_run)
    with pytest.raises(Interrupted):
        loop.train(config, tmp_path)
    average = final(whole_run)[0].ema_params
    assert_same(jax.device_get(seen[0].state.params), average)
    assert_same(jax.device_get(seen[0].state.ema_params), average)
    assert int(seen[0].state.step) == 0


def test_64_bits_are_refused_before_anything_is_written(tmp_path):
    with jax.enable_x64(True), pytest.raises(ict_jax.ArgumentError, match="jax_enable_x64 is on"):
        loop.train(one_device(), tmp_path / "a")
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_init_from_another_network_is_refused(tmp_path, whole_run):
    config = one_device()
    config.model.width = 32
    config.init_from = str(whole_run)
    with pytest.raises(
        ict_jax.ArgumentError, match=r"is another network: model.width \(64 -> 32\)"
    ):
        loop.train(config, tmp_path)


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
    expected = build_bind(config)(params, labels, None)(x, sigma)
    np.testing.assert_array_equal(f(x, sigma, labels), expected)
    np.testing.assert_array_equal(f(x, jax.numpy.full(3, 0.002), labels), x)
    with pytest.raises(ict_jax.ArgumentError, match="labels were not given and the model has 10"):
        f(x, sigma)
    sevens = functools.partial(f, labels=jax.numpy.array([7, 7]))
    images = ict_jax.sample(sevens, ict_jax.seed_keys([0, 1]), tuple(config.image_shape))
    assert images.shape == (2, 8, 8, 1)
    for setting in (jax.enable_x64(True), jax.numpy_dtype_promotion("strict")):
        with setting:
            g = functools.partial(
                checkpoints.load_consistency_fn(whole_run)[0], labels=jax.numpy.array([7, 7])
            )
            again = ict_jax.sample(g, ict_jax.seed_keys([0, 1]), tuple(config.image_shape))
        assert again.dtype == images.dtype
        np.testing.assert_array_equal(again, images)


def test_the_saved_average_is_the_average_of_the_run(tmp_path, monkeypatch):
    ended, original = [], loop.run_steps
    monkeypatch.setattr(loop, "run_steps", lambda *args: ended.append(original(*args)) or ended[0])
    loop.train(one_device(), tmp_path)
    saved = final(tmp_path)[0]
    assert_same(saved.ema_params, jax.device_get(ended[0].state.ema_params))
    assert_same(saved.params, jax.device_get(ended[0].state.params))
    pairs = zip(jax.tree.leaves(saved.params), jax.tree.leaves(saved.ema_params), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_a_failed_save_is_removed_though_parts_of_it_are_still_written(tmp_path, monkeypatch):
    half = epath.Path(tmp_path) / "20.orbax-checkpoint-tmp"
    half.mkdir()
    rmtree, failed = type(half).rmtree, []

    def fails_once(path, *args, **kwargs):
        if not failed:
            failed.append(path)
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return rmtree(path, *args, **kwargs)

    monkeypatch.setattr(type(half), "rmtree", fails_once)
    directory.remove_incomplete(half.parent)
    assert failed == [half] and not half.exists()


def test_a_process_that_died_is_thought_of_where_a_save_fails(copied, monkeypatch):
    opened, _ = copied
    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: 2)
        with pytest.raises(NotSaved, match=r"if a connection was lost, another process died"):
            opened._handle_failed_save(
                ValueError("Gloo AllGather failed: Connection closed by peer")
            )
    opened._abandoned = False  # the fixture closes it
    with pytest.raises(NotSaved) as alone:
        opened._handle_failed_save(OSError(errno.ENOSPC, "No space left on device"))
    assert "another process" not in str(alone.value)
