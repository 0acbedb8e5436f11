"""Real training of two processes by the launchers, stopped by SIGTERM and resumed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.launch.stubs import LAUNCH

pytestmark = pytest.mark.slow
STEPS = 60
FLAGS = (
    "--config=configs/digits.py:smoke",
    f"--config.total_steps={STEPS}",
    "--config.logging.every_steps=10",
    "--config.logging.samples_every_steps=100000",
    "--config.checkpointing.every_steps=100000",
    "--config.evaluation.at_end=False",
)
LOOPBACK = "--oversubscribe --mca oob_tcp_if_include lo --mca btl_tcp_if_include lo"
ROOT_TOO = " --allow-run-as-root" if os.geteuid() == 0 else ""
SLURM = ["slurmctld", "slurmd", "sbatch", "munged"]


def environment(**more):
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "JAX_NUM"))
    }
    outside["PYTHON"] = sys.executable
    outside["JAX_PLATFORMS"] = "cpu"
    return {**outside, "MPIRUN_OPTIONS": LOOPBACK + ROOT_TOO, **more}


def started(script, workdir, log):
    with log.open("w") as file:
        return subprocess.Popen(
            [LAUNCH / script, "2", *FLAGS, f"--workdir={workdir}"],
            cwd=ROOT,
            env=environment(),
            stdout=file,
            stderr=file,
        )


def wait_for(log: Path, pattern: str, secs: int = 150):
    """Waits until the log says so; the match."""
    end = time.monotonic() + secs
    while time.monotonic() < end:
        said = log.read_text(errors="replace") if log.exists() else ""
        if match := re.search(pattern, said):
            return match
        time.sleep(0.2)
    raise AssertionError(f"{pattern!r} is not in:\n{said}")


def stopped_at(log: Path, processes: int = 2) -> int:
    """The step at which all processes of the log say that they stopped."""
    steps = re.findall(r"interrupted: stopped at step ([\d,]+)", log.read_text())
    assert len(steps) == processes and len(set(steps)) == 1, log.read_text()
    return int(steps[0].replace(",", ""))


def check_finished(workdir: Path, resumed_from: int, log: Path):
    assert (workdir / "checkpoints" / str(STEPS)).is_dir()
    said = log.read_text()
    assert "2 cpu device(s) of 2 processes" in said
    assert len(re.findall(rf"step +{STEPS}/{STEPS} ", said)) == 1  # one process speaks
    first = int(re.search(rf"step +(\d+)/{STEPS} ", said)[1])
    assert resumed_from < first <= resumed_from + 10


@pytest.mark.parametrize("script", ["local.sh", "mpi.sh"])
def test_stop_and_resume(script, tmp_path):
    if script == "mpi.sh" and not shutil.which("mpirun"):
        pytest.skip("mpirun is not installed (openmpi-bin)")
    log, again = tmp_path / "log", tmp_path / "again"
    job = started(script, tmp_path / "run", log)
    try:
        wait_for(log, rf"step +\d+/{STEPS} ")
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 75, log.read_text()
        step = stopped_at(log)
        assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()
        job = started(script, tmp_path / "run", again)
        assert job.wait(150) == 0, again.read_text()
    finally:
        job.terminate()
    check_finished(tmp_path / "run", step, again)


def test_a_mistake_ends_the_job_with_its_code(tmp_path):
    result = subprocess.run(
        [LAUNCH / "local.sh", "2", FLAGS[0], "--config.data.name=nope", f"--workdir={tmp_path}/w"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 1
    for index in (0, 1):
        assert f"[{index}] error: " in result.stderr, result.stderr
    assert "'nope' is not a known data set" in result.stderr


@pytest.fixture(scope="module")
def slurm():
    """The SLURM of this machine, started for this module."""
    missing = [name for name in SLURM if not shutil.which(name)]
    if missing:
        pytest.skip(f"{missing} are not installed (slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("the daemons of SLURM are started by root")
    # In a short path: it holds a socket.
    directory = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    daemons = subprocess.Popen(
        [ROOT / "tests/launch/slurm_on_one_machine.sh", directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemons.stdout.readline() == "ready\n"
        yield {"SLURM_CONF": str(directory / "slurm.conf")}
    finally:
        daemons.stdin.close()
        daemons.wait(20)
        daemons.stdout.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("how", [["--signal=TERM"], []], ids=["signal", "cancel"])
def test_slurm_stop_and_resume(how, slurm, tmp_path):
    def slurm_command(*words):
        return subprocess.run(
            list(map(str, words)),
            cwd=ROOT,
            env=environment(**slurm),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def submit(log):
        batch = ["sbatch", "--parsable", "--ntasks=2", f"--output={log}", LAUNCH / "slurm.sbatch"]
        return slurm_command(*batch, *FLAGS, f"--workdir={tmp_path}/run").strip()

    def ended(job):
        for _ in range(300):
            told = slurm_command("scontrol", "show", "job", job)
            state, code = (re.search(rf"{key}=(\S+)", told)[1] for key in ("JobState", "ExitCode"))
            if state not in ("PENDING", "RUNNING", "COMPLETING"):
                return state, code
            time.sleep(0.5)
        raise AssertionError(told)

    log, again = tmp_path / "log", tmp_path / "again"
    job = submit(log)
    wait_for(log, rf"step +\d+/{STEPS} ")
    slurm_command("scancel", *how, job)
    state = ended(job)
    if how:
        assert state == ("FAILED", "75:0"), log.read_text()
    else:
        assert state[0] == "CANCELLED", log.read_text()
        wait_for(log, "interrupted: stopped at step [^.]*[.](.|\n)*interrupted: stopped", 30)
    step = stopped_at(log)
    assert ended(submit(again)) == ("COMPLETED", "0:0"), again.read_text()
    check_finished(tmp_path / "run", step, again)
