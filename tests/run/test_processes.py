"""Two real processes: they agree with one, and mistakes end both with a reason."""

import json
import os
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.jobs import QUICK, ROOT, Job, finish, free_port, losses, saved_steps
from ict_jax.checkpoints import load_consistency_fn
from ict_jax.runtime.preemption import EXIT_CODE

pytestmark = pytest.mark.slow

SHORT = ("--config.total_steps=60", "--config.logging.every_steps=1")


def drawn(workdir):
    """What the trained average makes of noise."""
    f, config = load_consistency_fn(workdir)
    noise = 80 * jax.random.normal(jax.random.key(0), (16, *config.image_shape))
    return np.asarray(f(noise, jax.numpy.full(16, 80.0), jax.numpy.arange(16) % 10))


def test_two_processes_agree_with_one_and_one_of_them_speaks(tmp_path):
    one = finish(tmp_path / "one", *SHORT)
    two = finish(tmp_path / "two", *SHORT, processes=2)
    a, b = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(a) == 60
    np.testing.assert_allclose(a, b, rtol=1e-5)
    outputs = [drawn(tmp_path / name) for name in ("one", "two")]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    assert outputs[0].std() > 3e-3  # a difference would show
    steps = re.findall(r"step +\d+/60 .* loss +[\d.]+", one.output())
    assert steps == re.findall(r"step +\d+/60 .* loss +[\d.]+", two.output(0)) and len(steps) == 60
    assert "2 cpu device(s) of 2 processes" in two.output(0)
    said = [line for line in two.output(1).splitlines() if not line.startswith("[Gloo]")]
    assert said == []


def started(tmp_path, *different):
    """Two processes of which the second gets other arguments."""
    job = Job(tmp_path / "run", processes=2, extra_of_last=different)
    return job, job.wait(100)


def test_processes_with_other_configs_do_not_start(tmp_path):
    job, codes = started(tmp_path, "--config.optimizer.learning_rate=0.5")
    assert codes == [1, 1], job.output(0) + job.output(1)
    for index in (0, 1):
        message = "error: the processes of this job have different values of the config; start all"
        assert message in job.output(index)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_two_processes_score_as_one(tmp_path, monkeypatch):
    """By protocol; the second time with the statistics of the reference that are kept."""
    finish(tmp_path / "run", "--config.total_steps=20")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = ("ict_jax.cli.evaluate", f"--checkpoint={tmp_path / 'run'}", "--protocol=train-set")
    options = ("--extractor=lite0", "--num_samples=10", "--batch_size=4", "--save_images")
    found = []
    for name, processes in (("one", 1), ("two", 2)):
        out = tmp_path / name
        job = Job(out, f"--out={out}", *options, processes=processes, command=command)
        assert set(job.wait()) == {0}, "".join(job.output(index) for index in range(processes))
        scores = json.loads((out / "scores_train-set.json").read_text())["scores"]
        with np.load(out / "samples_2.npz") as file:
            found.append((scores, file["arr_0"]))
        assert not list((out / "evaluation").iterdir())
    (a, images), (b, others) = found
    assert images.shape == (10, 8, 8, 1) and (images == others).mean() >= 0.999
    for name in ("one_step", "two_step", "floor"):
        expected = a[name]["fd_lite0"]["value"]
        assert b[name]["fd_lite0"]["value"] == pytest.approx(expected, rel=1e-3)
    assert "written:" in job.output(0) and "written:" not in job.output(1)


def test_a_mistake_that_one_process_finds_ends_both(tmp_path):
    job, codes = started(tmp_path, "--config.data.name=cifar10", "--config.data.data_dir=/nowhere")
    assert codes == [1, 1], job.output(0) + job.output(1)
    assert "error: process [1] of this job stopped with an error; see its message" in job.output(0)
    assert "/nowhere" in job.output(1)


def test_a_work_directory_that_is_not_shared_ends_both_before_they_compile(tmp_path):
    job, codes = started(tmp_path, f"--workdir={tmp_path / 'elsewhere'}")
    assert codes == [1, 1], job.output(0) + job.output(1)
    message = f"error: --workdir={tmp_path / 'elsewhere'} is not the same place for all processes"
    assert message in job.output(1)
    assert "error: process [1] of this job stopped with an error" in job.output(0)
    assert "compiled" not in job.output(0)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}


def test_sigterm_to_one_of_two_while_they_score(tmp_path):
    scored = ("--config.total_steps=20", "--config.evaluation.at_end=True")
    job = Job(tmp_path / "run", *scored, processes=2)
    assert job.wait_for("scoring:")
    job.processes[os.getpid() % 2].terminate()
    assert job.wait(30) == [EXIT_CODE, EXIT_CODE], job.output(0) + job.output(1)
    for process in (0, 1):
        assert "interrupted: stopped after the last step was saved; to score" in job.output(process)
    assert saved_steps(tmp_path / "run")[-1] == 20
    assert finish(tmp_path / "run", *scored, processes=2)
    assert (tmp_path / "run" / "scores.json").is_file()


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_whose_peers_do_not_come_says_so_in_time(tmp_path, index):
    environment = {
        **os.environ,
        **QUICK,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(index),
        "ICT_PEER_TIMEOUT_SECS": "5",
    }
    command = [sys.executable, "-m", "ict_jax.cli.train", "--config=configs/digits.py:smoke"]
    before = time.monotonic()
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 71
    assert "error: after 5 s not all of 2 processes have come together at 127.0.0.1" in done.stderr
    assert time.monotonic() - before < 60
    assert not (tmp_path / "run").exists()
