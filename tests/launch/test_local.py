"""Processes on this machine, with a script in the place of the training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.stubs import LAUNCH

TRAINING = """#!{python}
import os, signal, sys, time
if sys.argv[1] == "-c":
    exec(sys.argv[2])
    sys.exit()
index = int(os.environ["JAX_PROCESS_ID"])
def stop(*_):
    time.sleep(index)  # the first to be ready does not end the other
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else stop)
names = ["JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_LOCAL_DEVICE_IDS"]
print(*[os.environ.get(name) for name in names], index, sys.argv[1:], flush=True)
print("to stderr", file=sys.stderr, flush=True)
for word in sys.argv:
    if word.startswith("exit"):
        sys.exit(int(word[4:].split(",")[index]))
    if word.startswith("fail") and index == 1:
        sys.exit(int(word[4:]))
time.sleep(60)
"""


@pytest.fixture
def launch(tmp_path):
    training = tmp_path / "training"
    training.write_text(TRAINING.format(python=sys.executable))
    training.chmod(0o755)

    def start(*arguments, **environment):
        return subprocess.Popen(
            # A shell lets what it starts in the background ignore Ctrl-C.
            ["env", "--default-signal=INT", LAUNCH / "local.sh", *arguments],
            env={**os.environ, "PYTHON": str(training), "CUDA_VISIBLE_DEVICES": "", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_each_process_gets_its_index_and_the_flags(launch):
    process = launch("3", "--a=b c", "exit0,0,0")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0
    words = ["-m", "ict_jax.cli.train", "--a=b c", "exit0,0,0"]
    lines = sorted(out.splitlines())
    (address,) = {line.split()[1] for line in lines}
    assert address.startswith("127.0.0.1:")
    assert lines == [f"[{index}] {address} 3 None {index} {words}" for index in range(3)]
    assert sorted(error.splitlines()) == [f"[{index}] to stderr" for index in range(3)]


def test_gpus_are_shared_out_equally(launch):
    gpus = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "JAX_PLATFORMS": ""}
    out, _ = launch("2", "exit0,0", **gpus).communicate(timeout=120)
    told = {line[:3]: line.split()[3] for line in out.splitlines()}
    assert told == {"[0]": "0,1", "[1]": "2,3"}
    out, _ = launch("2", "exit0,0", **{**gpus, "JAX_PLATFORMS": "cpu"}).communicate(timeout=120)
    assert {line.split()[3] for line in out.splitlines()} == {"None"}


@pytest.mark.parametrize("visible", ["-1", "NoDevFiles", "-1,0"])
def test_what_cuda_does_not_see_is_no_gpu(launch, visible):
    out, _ = launch("2", "exit0,0", CUDA_VISIBLE_DEVICES=visible, JAX_PLATFORMS="").communicate(
        timeout=120
    )
    assert {line.split()[3] for line in out.splitlines()} == {"None"}


def test_no_process_outlives_the_script(launch):
    process = launch("2", "deaf")
    for _ in range(2):
        assert process.stdout.readline()
    children = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(process.pid)], text=True)
    trainings = [pid for pid in children.split() if b"ict_jax.cli.train" in cmdline(pid)]
    assert len(trainings) == 2
    process.send_signal(signal.SIGUSR1)  # which nothing in it expects
    process.communicate(timeout=30)
    assert not [pid for pid in trainings if cmdline(pid)]


def cmdline(pid):
    """The command of a process; nothing if it has ended."""
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_and_all_may_save(launch, number):
    process = launch("2")
    for _ in range(2):
        assert process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"]


@pytest.mark.parametrize(
    "codes, expected",
    [("0,0", 0), ("75,75", 75), ("0,3", 3), ("1,0", 1), ("75,1", 1), ("1,75", 1), ("75,0", 75)],
)
def test_the_exit_code_tells_the_worst(launch, codes, expected):
    process = launch("2", f"exit{codes}")
    process.communicate(timeout=120)
    assert process.returncode == expected


def test_when_one_fails_the_others_are_stopped_after_a_time(launch):
    process = launch("2", "fail3", ICT_GRACE_SECS="1")
    started = time.monotonic()
    out, error = process.communicate(timeout=120)
    assert process.returncode == 3 and 1 < time.monotonic() - started < 15
    assert "[0] saved" in out
    assert "process 1 ended with exit code 3" in error and "have not ended within 1 s" in error


def test_a_process_that_does_not_listen_is_killed(launch):
    process = launch("2", "fail1", "deaf", ICT_GRACE_SECS="0")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "process 0 ended with exit code 137" in error
