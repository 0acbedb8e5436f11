"""The launchers of clouds, with stubs for gcloud, kubectl and xpk."""

import shlex
import subprocess
import sys
import time

import pytest
import yaml

from tests.helpers import ROOT
from tests.launch.stubs import Stubs
from tests.launch.test_scripts import FLAGS, SET

PLACE = ["--project=p", "--zone=z"]
TPUS = ["gcloud", "compute", "tpus"]


def queued(verb, *rest):
    return [*TPUS, "queued-resources", verb, "run", *PLACE, *rest]


def vm(verb, *rest):
    return [*TPUS, "tpu-vm", verb, *rest]


STATE = queued("describe", "--format=value(state.state)")
KIND = ["--accelerator-type=v5litepod-16", "--runtime-version=v2"]


def test_create_one_slice(tmp_path):
    stubs = Stubs(tmp_path, "gcloud")
    assert stubs.run("tpu_vm.sh", "create", "--spot", "--network=n", **SET).returncode == 0
    made = queued("create", *KIND, "--node-id=run", "--spot", "--network=n")
    assert stubs.words() == [STATE, made]


def test_create_several_slices(tmp_path):
    stubs = Stubs(tmp_path, "gcloud")
    assert stubs.run("tpu_vm.sh", "create", **SET, ICT_SLICES="3").returncode == 0
    assert stubs.words()[1:] == [queued("create", *KIND, "--node-count=3", "--node-prefix=run")]


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_create_replaces_what_a_preemption_leaves(state, tmp_path):
    stubs = Stubs(tmp_path, "gcloud", describe=state)
    assert stubs.run("tpu_vm.sh", "create", **SET).returncode == 0
    calls = stubs.words()
    assert calls == [
        STATE,
        queued("delete", "--force", "--quiet"),
        queued("create", *KIND, "--node-id=run"),
    ]


@pytest.mark.parametrize("state", ["ACTIVE", "PROVISIONING", "WAITING_FOR_RESOURCES"])
def test_create_leaves_what_is_there(state, tmp_path):
    stubs = Stubs(tmp_path, "gcloud", describe=state)
    result = stubs.run("tpu_vm.sh", "create", **SET)
    assert result.returncode == 1 and f"run exists and is {state}; go on with" in result.stderr
    assert stubs.words() == [STATE]


def test_status_and_wait(tmp_path):
    stubs = Stubs(tmp_path, "gcloud", describe="ACTIVE")
    assert stubs.run("tpu_vm.sh", "status", **SET).stdout == "ACTIVE\n"
    assert stubs.run("tpu_vm.sh", "wait", **SET).stdout == "ACTIVE\n"
    assert stubs.words() == [STATE, STATE]


def test_wait_goes_on_until_the_state_changes(tmp_path):
    stubs = Stubs(tmp_path)
    (tmp_path / "gcloud").write_text(
        f"#!/bin/bash\necho >>{tmp_path}/n\n[ $(wc -l <{tmp_path}/n) -lt 4 ] && echo PROVISIONING "
        "|| echo ACTIVE\n"
    )
    (tmp_path / "gcloud").chmod(0o755)
    result = stubs.run("tpu_vm.sh", "wait", **SET, ICT_POLL_SECS="0")
    assert result.returncode == 0 and result.stdout == "PROVISIONING\nACTIVE\n"
    assert (tmp_path / "n").read_text().count("\n") == 4


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDING", "SUSPENDED"])
def test_wait_gives_up(state, tmp_path):
    result = Stubs(tmp_path, "gcloud", describe=state).run("tpu_vm.sh", "wait", **SET)
    assert result.returncode == 1
    message = f"run is {state}; request it again, as in launch/tpu_vm.sh create."
    assert result.stderr == f"error: {message}\n"


def of_all_workers(calls, node):
    """The command of the one call of ssh to a node."""
    (found,) = [call for call in calls if call[:6] == vm("ssh", node)]
    assert found[6:9] == [*PLACE, "--worker=all"] and len(found) == 10
    assert found[9].startswith("--command=")
    command = found[9].removeprefix("--command=")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    return command


def test_install_this_tree(tmp_path):
    stubs = Stubs(tmp_path, "gcloud")
    assert stubs.run("tpu_vm.sh", "install", **SET).returncode == 0
    copy, _ = stubs.words()
    assert copy[:5] == vm("scp") and copy[5].endswith("/ict_jax.tgz")
    assert copy[6:] == ["run:ict_jax.tgz", *PLACE, "--worker=all"]
    command = of_all_workers(stubs.words(), "run")
    assert command.startswith("rm -rf ict_jax && mkdir ict_jax && tar xzf ict_jax.tgz -C ict_jax")
    assert '-c constraints.txt -e ".[tpu,gcs]"' in command


def test_what_is_installed_is_the_tree_without_environment_and_runs(tmp_path):
    stubs = Stubs(tmp_path)
    (tmp_path / "gcloud").write_text(
        f'#!/bin/bash\n[[ "$*" != *" scp "* ]] || cp "$5" {tmp_path}/copy.tgz\n'
    )
    (tmp_path / "gcloud").chmod(0o755)
    assert stubs.run("tpu_vm.sh", "install", **SET).returncode == 0
    listing = subprocess.run(
        ["tar", "tzf", tmp_path / "copy.tgz"], capture_output=True, text=True, check=True
    )
    names = {name.removeprefix("./") for name in listing.stdout.splitlines()}
    assert {"setup.py", "constraints.txt", "ict_jax/cli/train.py", "configs/digits.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", "runs/"))]


def test_install_a_repository_on_all_slices(tmp_path):
    stubs = Stubs(tmp_path, "gcloud")
    result = stubs.run("tpu_vm.sh", "install", "https://x/y.git", "v1", **SET, ICT_SLICES="2")
    assert result.returncode == 0 and len(stubs.words()) == 2
    for node in ("run-0", "run-1"):
        command = of_all_workers(stubs.words(), node)
        assert "git clone --quiet https://x/y.git ict_jax && git -C ict_jax checkout" in command
        assert " --quiet v1 && cd ict_jax" in command


def test_logs_and_delete(tmp_path):
    stubs = Stubs(tmp_path, "gcloud")
    for arguments in (["logs"], ["logs", "3"], ["delete"]):
        assert stubs.run("tpu_vm.sh", *arguments, **SET, ICT_SLICES="2").returncode == 0
    tail = "--command=tail -n 100 -F ict_jax/train.log"
    assert stubs.words() == [
        vm("ssh", "run-0", *PLACE, "--worker=0", tail),
        vm("ssh", "run-0", *PLACE, "--worker=3", tail),
        queued("delete", "--force", "--quiet"),
    ]


TRAINING = """#!{python}
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print(sys.argv[1:], flush=True)
time.sleep(60)
"""


def test_run_and_stop_on_a_host(tmp_path):
    """ssh is replaced by a shell here, and the training by a script that waits for SIGTERM."""
    host = tmp_path / "ict_jax"
    (host / ".venv/bin").mkdir(parents=True)
    (host / ".venv/bin/python").write_text(TRAINING.format(python=sys.executable))
    (host / ".venv/bin/python").chmod(0o755)
    (tmp_path / "gcloud").write_text(
        '#!/bin/bash\nfor word; do [[ $word != --command=* ]] || exec bash -c "${word#*=}"; done\n'
    )
    (tmp_path / "gcloud").chmod(0o755)
    stubs = Stubs(tmp_path)
    odd = '--config.data.name=it\'s $HOME "x"'

    def run():
        return stubs.run("tpu_vm.sh", "run", *FLAGS, odd, **SET)

    started = time.monotonic()
    result = run()
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 10  # it goes on in the background
    log = host / "train.log"

    def wait_for_start(number):
        while not log.exists() or log.read_text().count("ict_jax.cli.train") < number:
            assert time.monotonic() - started < 40
            time.sleep(0.1)

    wait_for_start(1)
    assert log.read_text() == f"{['-m', 'ict_jax.cli.train', *FLAGS, odd]}\n"
    result = run()
    assert result.returncode == 1 and "it is already running" in result.stderr
    result = stubs.run("tpu_vm.sh", "stop", **SET)
    assert result.returncode == 0 and result.stdout == "exit code 75\n", result.stderr
    assert log.read_text().endswith("saved\nexit code 75\n")
    assert run().returncode == 0  # the same command again
    wait_for_start(2)
    assert stubs.run("tpu_vm.sh", "stop", **SET).stdout == "exit code 75\n"
    assert log.read_text().count("saved") == 2


def test_a_host_that_fails_is_reported(tmp_path):
    (tmp_path / "gcloud").write_text('#!/bin/bash\n[[ "$*" != *run-1* ]]\n')
    (tmp_path / "gcloud").chmod(0o755)
    stubs = Stubs(tmp_path)
    assert stubs.run("tpu_vm.sh", "stop", **SET, ICT_SLICES="2").returncode == 1
    assert stubs.run("tpu_vm.sh", "stop", **SET, ICT_SLICES="1").returncode == 0


def jobset(tmp_path, *flags, **settings):
    stubs = Stubs(tmp_path, "kubectl")
    result = stubs.run("gke/jobset.sh", "--print", *flags, **{**SET, **settings})
    assert result.returncode == 0, result.stderr
    assert stubs.calls() == []
    return yaml.safe_load(result.stdout)


def test_jobset(tmp_path):
    odd = '--config.data.name=a "b" \\ $X & c: #d'
    job = jobset(tmp_path, *FLAGS, odd, ICT_SLICES="2", ICT_CHIPS="8")
    assert job["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and job["kind"] == "JobSet"
    assert job["metadata"]["name"] == "run"
    topology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert job["metadata"]["annotations"] == {topology: "cloud.google.com/gke-nodepool"}
    assert job["spec"]["failurePolicy"]["maxRestarts"] == 10
    (slices,) = job["spec"]["replicatedJobs"]
    assert slices["replicas"] == 2
    hosts = slices["template"]["spec"]
    assert (hosts["parallelism"], hosts["completions"], hosts["backoffLimit"]) == (4, 4, 0)
    pod = hosts["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 300
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = pod["containers"]
    assert container["image"] == "i"
    assert container["command"] == ["python", "-m", "ict_jax.cli.train"]
    assert container["args"] == [*FLAGS, odd]
    assert container["resources"] == {"limits": {"google.com/tpu": 8}}
    # Only a diverged run is given up; any other end, 75 and 1 included, is a restart.
    (rule,) = hosts["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [3]}
    assert container["name"] == "train" and rule["action"] == "FailJob"
    assert job["spec"]["failurePolicy"]["rules"] == [
        {
            "name": "diverged",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
        }
    ]


def test_no_restarts_are_a_number_too(tmp_path):
    job = jobset(tmp_path, *FLAGS, ICT_MAX_RESTARTS="0")
    assert job["spec"]["failurePolicy"]["maxRestarts"] == 0


def test_flags_in_two_words(tmp_path):
    words = ("--config", "configs/digits.py", "--workdir", "gs://bucket/run")
    job = jobset(tmp_path, *words)
    (slices,) = job["spec"]["replicatedJobs"]
    (container,) = slices["template"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == list(words)


def test_jobset_is_applied(tmp_path):
    stubs = Stubs(tmp_path, "kubectl")
    assert stubs.run("gke/jobset.sh", *FLAGS, **SET).returncode == 0
    (get, _), (apply, manifest) = stubs.calls()
    state = ["--ignore-not-found", "--output=jsonpath={.status.terminalState}"]
    assert get == ["kubectl", "get", "jobset", "run", *state]
    assert apply == ["kubectl", "apply", "--filename=-"]
    assert yaml.safe_load(manifest)["spec"]["replicatedJobs"][0]["replicas"] == 1
    assert "${" not in manifest


def test_a_jobset_that_has_ended_is_replaced(tmp_path):
    stubs = Stubs(tmp_path, "kubectl", **{"get jobset": "Failed"})
    assert stubs.run("gke/jobset.sh", *FLAGS, **SET).returncode == 0
    _, delete, apply = stubs.words()
    assert delete == ["kubectl", "delete", "jobset", "run", "--wait"] and apply[1] == "apply"


def test_xpk(tmp_path):
    stubs = Stubs(tmp_path, "xpk")
    odd = "--config.data.name=it's x"
    assert stubs.run("gke/xpk.sh", *FLAGS, odd, **SET, ICT_SLICES="2").returncode == 0
    (words,) = stubs.words()
    assert words[:-1] == [
        *("xpk", "workload", "create", "--workload=run", "--cluster=c", "--project=p", "--zone=z"),
        *("--tpu-type=v5litepod-16", "--num-slices=2", "--docker-image=i", "--max-restarts=10"),
        *("--restart-on-exit-codes=71,74,75", "--termination-grace-period-seconds=300"),
    ]
    command = shlex.split(words[-1].removeprefix("--command="))
    assert command == ["exec", "python", "-m", "ict_jax.cli.train", *FLAGS, odd]


def test_dockerfile_copies_no_environment_and_installs_for_tpu():
    text = (ROOT / "launch/gke/Dockerfile").read_text()
    assert "-c constraints.txt -e '.[tpu,gcs]'" in text
    ignored = (ROOT / "launch/gke/Dockerfile.dockerignore").read_text().split()
    assert {".git", ".venv", "runs"} <= set(ignored)
