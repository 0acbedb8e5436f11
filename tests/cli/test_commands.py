"""The commands as a user types them: what they write, and one sentence for each mistake."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from ict_jax.checkpoints import load_ema
from ict_jax.checkpoints.weights import write_ema
from ict_jax.cli import common
from tests.helpers import ROOT, command

SMOKE = "--config=configs/digits.py:smoke"
in_this_process = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "digits"
    result = command("train", SMOKE, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir, result


def test_train_reports_and_scores(run):
    workdir, result = run
    out = result.stdout
    for text in (
        '"total_steps": 20',
        "134,784 parameters on 1 cpu device(s)",
        "compiled the training step in",
        "step      20/20  N   41  loss",
        "images/s",
        "fd_classifier",
        "written: ",
        "done in ",
    ):
        assert text in out, text
    record = json.loads((workdir / "scores.json").read_text())
    scores = record["scores"]
    for name in ("one_step", "two_step", "floor", "noise", "gaussian"):
        assert {"fd_classifier", "kid", "confident"} <= set(scores[name]), name
    assert record["reference"]["splits"] == 20 and record["step"] == 20
    floor, gaussian, noise = (scores[name] for name in ("floor", "gaussian", "noise"))
    assert floor["n"] == 300
    distances = [row["fd_classifier"]["value"] for row in (floor, gaussian, noise)]
    assert distances == sorted(distances)
    for name in ("one_step", "two_step", "real"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert picture.size == (67, 67)


def test_sample_needs_no_config(run, tmp_path):
    workdir, _ = run
    arguments = (f"--checkpoint={workdir}", "--seeds=3-12", "--sigmas=80,0.8")
    result = command("sample", *arguments, f"--out={tmp_path}/a")
    assert result.returncode == 0, result.stderr
    assert "10/10" in result.stdout and "images/s" in result.stdout
    saved = np.load(tmp_path / "a" / "samples.npz")
    assert saved["images"].shape == (10, 8, 8, 1) and saved["images"].dtype == np.uint8
    assert list(saved["seeds"]) == list(range(3, 13)) and list(saved["sigmas"]) == [80, 0.8]
    assert int(saved["step"]) == 20
    assert (tmp_path / "a" / "grid.png").is_file()
    # A part of the seeds, in smaller batches, gives the same images.
    arguments = (f"--checkpoint={workdir}/checkpoints/20", "--seeds=5-7", "--sigmas=80,0.8")
    result = command("sample", *arguments, "--batch_size=2", f"--out={tmp_path}/b")
    assert result.returncode == 0, result.stderr
    part = np.load(tmp_path / "b" / "samples.npz")["images"]
    np.testing.assert_array_equal(part, saved["images"][2:5])


def test_process_wide_settings_of_jax_change_nothing(run, tmp_path):
    workdir, _ = run
    arguments = (f"--checkpoint={workdir}", "--seeds=0-3", "--sigmas=80,0.8")
    expected = command("sample", *arguments, f"--out={tmp_path}/a")
    assert expected.returncode == 0 and "is not used" not in expected.stderr, expected.stderr
    settings = {
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_RANDOM_SEED_OFFSET": "5",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    }
    assert {name.lower() for name in settings} == set(common.PINNED)
    result = command("sample", *arguments, f"--out={tmp_path}/b", **settings)
    assert result.returncode == 0, result.stderr
    for name in settings:
        assert f"note: {name}=" in result.stderr
    images = [np.load(tmp_path / name / "samples.npz")["images"] for name in "ab"]
    np.testing.assert_array_equal(*images)


def scaled(workdir, out, factor):
    """A work directory with the averaged parameters of another, multiplied."""
    params, config, step = load_ema(workdir)
    params = jax.tree.map(lambda leaf: leaf * factor, params)
    write_ema(epath.Path(out), params, config, step)
    return out


@in_this_process
@pytest.mark.parametrize("factor", [1e25, np.nan])
def test_samples_that_are_not_finite_stop_every_command(run, tmp_path, factor, monkeypatch, capsys):
    source = scaled(run[0], tmp_path / "bad", factor)
    out = tmp_path / "out"
    commands = {"sample": ["--seeds=0-3"], "evaluate": ["--num_samples=300"]}
    commands["search_sigmas"] = commands["evaluate"]
    if np.isnan(factor):
        commands["export_weights"] = []
        out = tmp_path / "out.safetensors"
    for name, arguments in commands.items():
        arguments = [f"--checkpoint={source}", f"--out={out}", *arguments]
        code, _, error = in_process(name, arguments, monkeypatch, capsys)
        assert code == common.EXIT_DIVERGED, error
        assert error.startswith("diverged: ") and error.count("\n") == 1, error
        assert "NaN or infinite" in error
    assert not list(tmp_path.rglob("samples.npz")) and not list(tmp_path.rglob("scores.json"))
    assert not list(tmp_path.rglob("sigmas.json")) and not list(tmp_path.rglob("*.safetensors"))


def test_evaluate_repeats_the_scores_of_the_run(run, tmp_path):
    workdir, _ = run
    result = command(
        "evaluate", f"--checkpoint={workdir}", "--num_samples=300", f"--out={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "scores.json").read_text()) == json.loads(
        (workdir / "scores.json").read_text()
    )


def test_console_scripts_work_from_any_directory(tmp_path):
    script = os.path.join(os.path.dirname(sys.executable), "ict-train")
    result = subprocess.run(
        [script, f"--config={ROOT}/configs/digits.py:smoke", "--workdir=x", "--config.seed=-1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert "config.seed=-1 must be a whole number" in result.stderr


@pytest.mark.parametrize(
    "name", ["train", "sample", "evaluate", "prepare", "import_weights", "export_weights"]
)
def test_help(name):
    result = command(name, "--help")
    assert result.returncode == 0 and not result.stderr
    assert f"python -m ict_jax.cli.{name} " in result.stdout
    assert "flags:" in result.stdout


def mistakes(tmp_path):
    """Command, arguments, and what the one sentence must contain."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "torn" / "checkpoints" / "5" / "config").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    work = f"--workdir={tmp_path}/w"
    out = f"--out={tmp_path}/out"
    empty = f"--checkpoint={tmp_path}/empty"
    return [
        ("train", [], "--config is missing; give it, as in --config=configs/digits.py"),
        ("train", [SMOKE], "--workdir is missing"),
        ("train", [SMOKE, work, "--nonsense=1"], "nonsense"),
        ("train", [SMOKE, work, "digits"], "unexpected argument ['digits']; flags are written"),
        ("train", [SMOKE, work, "--config.nonsense=1"], "nonsense"),
        ("train", [SMOKE, work, "--config.optimizer.rate=1"], "rate"),
        ("train", [SMOKE, work, "--config.total_steps=many"], "many"),
        ("train", ["--config=configs/nope.py", work], "configs/nope.py is not a file; give one of"),
        (
            "train",
            ["--config=configs/digits.py:tiny", work],
            "the form 'tiny' of the config is unknown",
        ),
        ("train", [SMOKE, work, "--config.total_steps=2"], "total_steps=2 is fewer than the 3"),
        ("train", [SMOKE, work, "--config.batch_size=2000"], "batch_size=2000 must be between 1"),
        ("train", [SMOKE, work, "--config.batch_size=0"], "batch_size=0 must be"),
        ("train", [SMOKE, work, "--config.data.name=mnist"], "'mnist' is not a known data set"),
        ("train", [SMOKE, work, "--config.data.name=tfds:nope"], "'tfds:nope' was not found"),
        ("train", [SMOKE, work, "--config.model.name=big"], "'big' is unknown; use one of"),
        ("train", ["--config=configs/base.py", work], "config.model.name=None is unknown; use one"),
        (
            "train",
            [SMOKE, work, "--config.model.width=0"],
            "config.model: width=0 must be at least 1",
        ),
        (
            "train",
            [SMOKE, work, "--config.model.dropout=1.5"],
            "config.model: dropout=1.5 must be in [0, 1)",
        ),
        ("train", [SMOKE, work, "--config.seed=-1"], "config.seed=-1 must be a whole number"),
        (
            "train",
            [SMOKE, work, f"--config.seed={2**32}"],
            "config.seed=4294967296 must be a whole",
        ),
        ("train", [SMOKE, work, "--config.total_steps=3000000000"], "must be a whole number from"),
        ("train", [SMOKE, work, "--config.discretization.rho=0.001"], "rho=0.001 must be between"),
        ("train", [SMOKE, work, "--config.optimizer.eps=0."], "eps=0.0 must satisfy"),
        ("train", [SMOKE, work, "--config.model.num_classes=7"], "digits has 10 classes; use that"),
        ("train", [SMOKE, work, "--config.training.ema_decay=2."], "ema_decay=2.0 must be in"),
        ("train", [SMOKE, work, "--config.discretization.sigma_min=90."], "sigma_min=90.0 and"),
        ("train", [SMOKE, work, "--config.sampling.second_sigma=90."], "second_sigma=90.0 must"),
        ("train", [SMOKE, work, "--config.mesh.num_devices=7"], "mesh.num_devices=7, but there"),
        ("train", [SMOKE, work, "--config.checkpointing.every_steps=0"], "every_steps=0 must be"),
        ("train", [SMOKE, work, "--config.logging.every_steps=0"], "logging.every_steps=0 must"),
        ("train", [SMOKE, f"--workdir={tmp_path}/file/w"], "cannot be written to (Not a directory"),
        ("train", [SMOKE, work, f"--init_from={tmp_path}/empty"], "--init_from="),
        ("sample", [out], "--checkpoint is missing"),
        ("sample", [empty], "--out is missing"),
        ("sample", [f"--checkpoint={tmp_path}/no", out], "/no does not exist; give a work"),
        ("sample", [f"--checkpoint={tmp_path}/file", out], "is a file, expected a work directory"),
        ("sample", [empty, out], "should hold checkpoints and holds none; train first"),
        ("sample", [f"--checkpoint={tmp_path}/half", out], "only the incomplete 5.orbax"),
        ("sample", [f"--checkpoint={tmp_path}/torn", out], "lacks ['ema']: it is incomplete"),
        ("sample", [empty, out, "--seeds=5-2"], "--seeds=5-2 must ascend and stay below 2^32"),
        ("sample", [empty, out, "--seeds=a-b"], "--seeds=a-b is not a range; write"),
        ("sample", [empty, out, "--sigmas=80;1"], "--sigmas=80;1 is not a list of numbers"),
        ("sample", [empty, out, "--batch_size=x"], "batch_size"),
        ("sample", [empty, out, "--sigmas=80", "--steps=2"], "both say at which levels to sample"),
        ("import_weights", [out], "--source is missing; give it, as in --source=cd-lpips"),
        ("import_weights", [f"--source={tmp_path}/no", out], "/no does not exist; give the file"),
        ("import_weights", [f"--source={tmp_path}/file", out], "a config is needed for"),
        (
            "import_weights",
            [f"--source={tmp_path}/file", "--config=configs/openai_cifar10.py", out],
            "/file is empty; get it again",
        ),
        (
            "import_weights",
            [f"--source={tmp_path}/empty", "--config=configs/openai_imagenet64.py", out],
            "/unet holds none of ['diffusion_pytorch_model.safetensors',",
        ),
        ("export_weights", [empty], "--out is missing"),
        ("export_weights", [empty, out], "should hold checkpoints and holds none"),
        ("export_weights", [empty, out, "--format=onnx"], "<safetensors|diffusers>"),
        ("train", ["--dry_run"], "--config is missing"),
        ("train", [SMOKE, "--dry_run", "--config.total_steps=2"], "total_steps=2 is fewer than"),
        ("prepare", [], "the first argument is [], expected one of ['imagenet64', 'folder'"),
        ("prepare", ["mnist", out], "the first argument is ['mnist'], expected one of"),
        ("prepare", ["folder", out], "--source is missing; give it, as in folder --source=DIR"),
        ("prepare", ["folder", "x", out], "unexpected argument ['x']; flags are written"),
        ("prepare", ["folder", f"--source={tmp_path}/empty", out], "--image_size is missing"),
        (
            "prepare",
            ["folder", f"--source={tmp_path}/empty", "--image_size=8", out],
            "/empty holds no images; remove that class",
        ),
        (
            "prepare",
            ["imagenet64", f"--source={tmp_path}/empty", "--image_size=8", out],
            "imagenet64 takes no --image_size; leave that out",
        ),
        ("prepare", ["imagenet64", f"--source={tmp_path}/no", out], "/no holds neither train/ nor"),
        ("prepare", ["cifar10", f"--source={tmp_path}/empty", out], "binary.tar.gz does not exist"),
        ("prepare", ["tfds", out], "--name is missing"),
        ("train", [SMOKE, work, "--config.pipeline.read_threads=0"], "read_threads=0 and"),
        (
            "train",
            [SMOKE, work, "--config.data.name=emoji", "--config.data.image_size=8"],
            "from 16",
        ),
        ("evaluate", [], "--checkpoint is missing"),
        ("evaluate", [empty, "--extractor=lite0"], "compares in the features of classifier and"),
        ("evaluate", [empty, "--reference=a.npz"], "--reference belong to other protocols than"),
        ("evaluate", [empty, "--sigmas=80", "--steps=2"], "both say at which levels to sample"),
        ("evaluate", [empty, "--protocol=fid"], "--protocol=fid is not known; use one of held-out"),
        (
            "evaluate",
            [empty, "--protocol=train-set"],
            "--protocol=train-set needs --extractor: inc",
        ),
        ("search_sigmas", [empty, "--steps=1"], "--steps=1 must be at least 2"),
        ("evaluate", [empty], "should hold checkpoints and holds none"),
    ]


def in_process(name, arguments, monkeypatch, capsys):
    """Exit code, stdout and stderr of a command run in this process, which spares its start."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"ict_jax.cli.{name}").main()
    return stopped.value.code, *capsys.readouterr()


@in_this_process
def test_every_mistake_gives_one_sentence(tmp_path, user_errors, monkeypatch, capsys):
    for name, arguments, message in mistakes(tmp_path):
        code, out, error = in_process(name, arguments, monkeypatch, capsys)
        told = f"{name} {arguments}: {error}"
        assert code == common.EXIT_ERROR, told
        assert error.startswith("error: ") and error.count("\n") == 1, told
        assert message in error and "Traceback" not in error, told
        assert "compiled" not in out, told
    store = tmp_path / "w" / "checkpoints"
    assert not store.exists() or not list(store.iterdir())


@pytest.mark.parametrize("name", ["train", "sample", "evaluate"])
def test_the_process_ends_after_one_sentence(tmp_path, name):
    """Nothing that a process prints as it ends follows the sentence."""
    cases = [case for case in mistakes(tmp_path) if case[0] == name]
    _, arguments, message = cases[-1]
    result = command(name, *arguments)
    assert result.returncode == common.EXIT_ERROR
    assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr


@in_this_process
def test_a_run_that_diverged_has_a_code_of_its_own(tmp_path, monkeypatch, capsys):
    flags = ["--config.optimizer.learning_rate=1e30", "--config.mesh.num_devices=1"]
    arguments = [SMOKE, f"--workdir={tmp_path}/w", *flags]
    code, _, error = in_process("train", arguments, monkeypatch, capsys)
    assert code == common.EXIT_DIVERGED == 3
    assert error.startswith("diverged: ") and error.count("\n") == 1, error


@in_this_process
def test_sampling_mistakes_of_a_real_checkpoint(run, tmp_path, user_errors, monkeypatch, capsys):
    workdir, _ = run
    for arguments, message in [
        (["--sigmas=0.8,80"], "sigmas=[0.8, 80.0] must descend strictly"),
        (["--sigmas=80,0.0001"], "at least sigma_min=0.002"),
        (["--sigmas=0.8"], "sigmas=[0.8] must begin with the model's sigma_max=80.0"),
        (["--step=7"], "step 7 is not among the checkpoints [10, 20]"),
        (["--labels=11"], "--labels=11 must be classes of the model, 0 to 9"),
        (["--labels=1,2"], "--labels=1,2 is not one class, or one for each of 64 seeds"),
        (["--batch_size=0"], "--batch_size=0 must be at least 1"),
    ]:
        arguments = [f"--checkpoint={workdir}", f"--out={tmp_path}", *arguments]
        code, _, error = in_process("sample", arguments, monkeypatch, capsys)
        assert code == 1 and message in error and error.count("\n") == 1, error


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    workdir, _ = run
    shutil.copytree(workdir / "checkpoints" / "20", tmp_path / "checkpoints" / "20")
    for path in (tmp_path / "checkpoints" / "20" / "ema").rglob("*"):
        if path.is_file() and "d" == path.parent.name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = command("sample", f"--checkpoint={tmp_path}", f"--out={tmp_path}/out")
    assert result.returncode == 1, result.stdout
    # Orbax's reader threads may print of their own accord as they end.
    assert "checkpoints/20 cannot be read" in result.stderr, result.stderr
    assert "delete that directory to go on" in result.stderr, result.stderr


def start(workdir, *extra):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "ict_jax.cli.train", SMOKE, f"--workdir={workdir}", *extra],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LONG = ("--config.total_steps=4000", "--config.logging.every_steps=20")


def test_sigterm_saves_and_exits_with_its_own_code(tmp_path):
    process = start(tmp_path / "w", *LONG)
    while "step  " not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == common.EXIT_INTERRUPTED == 75, error
    assert "SIGTERM: finishing this step and saving" in out
    assert error.startswith("interrupted: stopped at step ") and "Traceback" not in error
    step = int(error.split("step ")[1].split(" ")[0].replace(",", ""))
    assert (tmp_path / "w" / "checkpoints" / str(step) / "ema").is_dir()


@pytest.mark.slow
def test_kill_in_the_middle_of_a_save_loses_only_that_save(tmp_path):
    """Kill -9 while a temporary directory exists; the next start resumes from a whole step."""
    store = tmp_path / "w" / "checkpoints"
    every = ("--config.checkpointing.every_steps=1", "--config.evaluation.at_end=False")
    process = start(tmp_path / "w", *every)
    deadline = time.monotonic() + 120
    killed = False
    while time.monotonic() < deadline and process.poll() is None:
        names = [path.name for path in store.iterdir()] if store.is_dir() else []
        if len([n for n in names if n.isdecimal()]) >= 2 and any("tmp" in n for n in names):
            process.kill()
            killed = True
            break
    process.communicate()
    assert killed, "the run ended before it could be killed in a save"
    whole = max(int(path.name) for path in store.iterdir() if path.name.isdecimal())
    result = command("train", SMOKE, f"--workdir={tmp_path}/w", *every)
    assert result.returncode == 0, result.stderr
    assert f"resuming from step {whole}" in result.stdout
    undisturbed = command("train", SMOKE, f"--workdir={tmp_path}/u", *every)
    assert undisturbed.returncode == 0, undisturbed.stderr
    images = []
    for name in ("w", "u"):
        out = tmp_path / f"samples_{name}"
        result = command("sample", f"--checkpoint={tmp_path / name}", f"--out={out}")
        assert result.returncode == 0, result.stderr
        images.append(np.load(out / "samples.npz")["images"])
    np.testing.assert_array_equal(*images)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["parameters on", "scoring:"])
def test_sigterm_outside_the_steps_saves_too(tmp_path, moment):
    """While the step is being compiled, and while the finished run is being scored."""
    process = start(tmp_path / "w")
    while moment not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 75, error
    assert error.startswith("interrupted: stopped") and "Traceback" not in error
    steps = [path.name for path in (tmp_path / "w" / "checkpoints").iterdir()]
    assert all(name.isdecimal() for name in steps) and len(steps) >= 1
