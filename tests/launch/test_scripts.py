"""What all launchers have in common."""

import re
import shutil
import subprocess

import pytest

from tests.launch.stubs import COMMANDS, LAUNCH, SCRIPTS, Stubs

NAMES = [str(path.relative_to(LAUNCH)) for path in COMMANDS]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    command = ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *SCRIPTS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_help(name, tmp_path):
    result = Stubs(tmp_path).run(name, "--help")
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.startswith("Train ")
    assert f"launch/{name} " in result.stdout
    for setting in re.findall(r"ICT_[A-Z_]+", (LAUNCH / name).read_text()):
        assert setting in result.stdout, setting


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_strict_and_hides_no_setting_of_the_tpu(path):
    text = path.read_text()
    assert "TPU_SKIP_MDS_QUERY" not in text
    assert path.name == "common.sh" or "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("name", NAMES)
def test_all_end_in_the_same_command(name):
    text = (LAUNCH / name).read_text() + (LAUNCH / "gke/jobset.yaml").read_text() * (
        "jobset" in name
    )
    assert "-m ict_jax.cli.train" in text or "-m, ict_jax.cli.train" in text


SET = {
    "ICT_NAME": "run",
    "ICT_PROJECT": "p",
    "ICT_ZONE": "z",
    "ICT_TPU_TYPE": "v5litepod-16",
    "ICT_TPU_RUNTIME": "v2",
    "ICT_CLUSTER": "c",
    "ICT_IMAGE": "i",
    "ICT_TPU_ACCELERATOR": "tpu-v5-lite-podslice",
    "ICT_TPU_TOPOLOGY": "4x4",
    "ICT_HOSTS": "4",
}
FLAGS = ("--config=configs/digits.py", "--workdir=gs://bucket/run")
MISTAKES = [
    *(("tpu_vm.sh", ("create",), {key: ""}, f"{key}, the ") for key in list(SET)[:5]),
    *(("tpu_vm.sh", ("stop",), {key: ""}, f"{key}, the ") for key in list(SET)[:3]),
    *(("gke/xpk.sh", FLAGS, {key: ""}, f"{key}, the ") for key in [*list(SET)[:4], "ICT_CLUSTER"]),
    *(("gke/jobset.sh", FLAGS, {key: ""}, f"{key}, the ") for key in ["ICT_NAME", *list(SET)[6:]]),
    *(
        (script, words, {}, message)
        for script, before in [("tpu_vm.sh", ("run",)), ("gke/xpk.sh", ()), ("gke/jobset.sh", ())]
        for words, message in [
            ((*before, FLAGS[1]), "--config is missing; give it, as in --config="),
            ((*before, FLAGS[0]), "--workdir must be a bucket that all hosts reach; give it, as"),
            ((*before, FLAGS[0], "--workdir=runs/x"), "--workdir must be a bucket"),
        ]
    ),
    ("gke/jobset.sh", FLAGS, {"ICT_SLICES": "0"}, "ICT_SLICES=0 must be a whole number from 1"),
    ("gke/jobset.sh", FLAGS, {"ICT_HOSTS": "two"}, "ICT_HOSTS=two must be a whole number"),
    ("gke/xpk.sh", FLAGS, {"ICT_SLICES": "x"}, "ICT_SLICES=x must be a whole number"),
    ("tpu_vm.sh", ("create",), {"ICT_SLICES": "x"}, "ICT_SLICES=x must be a whole number"),
    ("gke/xpk.sh", FLAGS, {"ICT_MAX_RESTARTS": "-1"}, "ICT_MAX_RESTARTS=-1 must be a whole number"),
    ("tpu_vm.sh", ("wait",), {"ICT_POLL_SECS": "1.5"}, "ICT_POLL_SECS=1.5 must be a whole number"),
    ("local.sh", ("2", *FLAGS), {"ICT_GRACE_SECS": "abc"}, "ICT_GRACE_SECS=abc must be a whole"),
    ("local.sh", ("2", *FLAGS), {"ICT_GRACE_SECS": "1.5"}, "ICT_GRACE_SECS=1.5 must be a whole"),
    ("local.sh", ("2", *FLAGS), {"PYTHON": "/nowhere/python"}, "'/nowhere/python' was not found"),
    ("mpi.sh", ("2", *FLAGS), {"PYTHON": "/nowhere/python"}, "'/nowhere/python' was not found"),
    ("tpu_vm.sh", (), {}, "the first argument is '', expected create, status"),
    ("tpu_vm.sh", ("start",), {}, "the first argument is 'start', expected create"),
    ("local.sh", (), {}, "the first argument is '', expected the number of processes, as in"),
    ("local.sh", FLAGS, {}, "expected the number of processes, as in launch/local.sh 2"),
    ("local.sh", ("0", *FLAGS), {}, "the first argument is '0', expected"),
    ("mpi.sh", FLAGS, {}, "expected the number of processes, as in launch/mpi.sh 2"),
    ("slurm.sbatch", FLAGS, {}, "this is not a SLURM job; submit it, as in sbatch launch"),
    (
        "local.sh",
        ("2", *FLAGS),
        {"CUDA_VISIBLE_DEVICES": "0,1,2", "JAX_PLATFORMS": ""},
        "2 processes cannot share 3 GPUs equally",
    ),
]


@pytest.mark.parametrize("script, words, changes, message", MISTAKES)
def test_a_mistake_gives_one_sentence_before_anything_is_called(
    script, words, changes, message, tmp_path
):
    stubs = Stubs(tmp_path, "gcloud", "kubectl", "xpk", "mpirun", "srun", "python")
    result = stubs.run(script, *words, **{**SET, **changes})
    assert result.returncode == 1, result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr and "as in " in result.stderr, result.stderr
    assert stubs.calls() == []


def test_nobodys_project_zone_or_path_is_in_a_script():
    for path in [*SCRIPTS, LAUNCH / "gke/jobset.yaml", LAUNCH / "gke/Dockerfile"]:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        text = "\n".join(line for line in lines if not re.match(r"\s*(need|fail) |.*\|\|$", line))
        assert not re.search(r"gs://(?!\"|BUCKET)|gcr\.io|pkg\.dev|us-\w+\d|/home/|/root", text), (
            path
        )
