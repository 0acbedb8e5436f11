"""What several processes agree on, with JAX's collectives replaced."""

import jax
import numpy as np
import pytest

import ict_jax
from ict_jax.checkpoints import save_barrier
from ict_jax.checkpoints.integrity import Damaged
from ict_jax.core.errors import ArgumentError
from ict_jax.run import loop, setup
from ict_jax.runtime import processes
from tests.helpers import smoke_config


@pytest.fixture
def two(monkeypatch):
    """This is the first of two processes; the second says what is set here."""
    monkeypatch.setattr(processes.jax, "process_count", lambda: 2)

    def says(other):
        monkeypatch.setattr(
            processes.multihost_utils,
            "process_allgather",
            lambda own: np.stack([own, np.asarray(other(own), own.dtype)]),
        )

    return says


def test_what_differs_is_named(two):
    values = {"the config": "a", "the data": "b", "the code of ict_jax": "c"}
    two(lambda own: own)
    processes.require_agreement(values)
    two(lambda own: own + np.array([1, 0, 1], np.uint32))
    message = "have different values of the config and the code of ict_jax; start all of them"
    with pytest.raises(ArgumentError, match=message):
        processes.require_agreement(values)


def test_identity_sees_the_code(monkeypatch, tmp_path):
    checked = setup.check(smoke_config())
    before = loop.identity(checked)
    assert set(before) == {
        "the config",
        "the data it names",
        "the code of ict_jax",
        "the version of JAX",
    }
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "losses.py").write_text("changed = 1\n")
    monkeypatch.setattr(ict_jax, "__file__", str(tmp_path / "__init__.py"))
    after = loop.identity(checked)
    assert [what for what in before if before[what] != after[what]] == ["the code of ict_jax"]
    (tmp_path / "core" / "losses.py").write_text("changed = 2\n")
    assert loop.identity(checked)["the code of ict_jax"] != after["the code of ict_jax"]


DAMAGED, OTHER = Damaged("it is damaged"), ArgumentError("a mistake")
CASES = [
    (None, 0, None),
    (None, 2, "process [1] of this job stopped with an error"),
    (OTHER, 0, "a mistake"),
    (OTHER, 1, "a mistake"),
    (DAMAGED, 0, "it is damaged; delete"),
    (None, 1, "damaged elsewhere; delete"),
    (DAMAGED, 2, "process [1] of this job stopped with an error"),
]


@pytest.mark.parametrize("own, kind_of_other, message", CASES)
def test_all_fail_together_and_in_the_same_way(two, own, kind_of_other, message):
    two(lambda _: kind_of_other)

    def act():
        with processes.all_or_none(elsewhere=Damaged("damaged elsewhere")):
            if own is not None:
                raise own
        return "done"

    if message is None:
        assert act() == "done"
        return
    with pytest.raises(ArgumentError) as caught:
        act()
    assert message in str(caught.value)
    assert isinstance(caught.value, Damaged) == ("damaged" in message)


@pytest.mark.parametrize("error", [IndexError("list"), KeyError("SLURM_PROCID"), TypeError("int")])
def test_whatever_keeps_a_process_from_joining_is_one_sentence(monkeypatch, error):
    def initialize(**_):
        raise error

    monkeypatch.setattr(processes, "job_arguments", lambda _: {"coordinator_address": "h:1"})
    monkeypatch.setattr(processes.jax.distributed, "initialize", initialize)
    monkeypatch.setattr(processes.jax.config, "update", lambda *_: None)
    message = rf"cannot join its job \({type(error).__name__}: .*\); check the launcher's env"
    with pytest.raises(ArgumentError, match=message):
        processes.initialize()


class Coordinator:
    """Keeps values, and the barriers that were passed."""

    def __init__(self):
        self.values, self.passed = {}, []

    def key_value_set(self, key, value, allow_overwrite):
        self.values[key] = value

    def key_value_try_get(self, key):
        if key not in self.values:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.values[key]

    def wait_at_barrier(self, key, timeout_ms):
        self.passed.append(key)


@pytest.fixture
def barrier(monkeypatch):
    coordination_client = Coordinator()
    monkeypatch.setattr(save_barrier, "coordination_client", lambda: coordination_client)
    made = save_barrier.SaveBarrier()
    made.begin(20)
    return made, coordination_client


WRITTEN, COMMITTED = "_async_write_complete.20", "_async_commit_complete.20"


def test_a_process_that_failed_lets_the_others_pass_and_tells_them(barrier):
    made, coordination_client = barrier
    try:
        raise OSError("disk")
    except OSError:
        made(key="set", timeout_ms=1)
    assert coordination_client.passed == [WRITTEN, "set"]
    assert list(coordination_client.values.values()) == ["disk"] and not made.peers_unaware


def test_a_process_that_failed_as_the_others_wait_for_the_renaming(barrier):
    made, coordination_client = barrier
    made(key=WRITTEN, timeout_ms=1)
    try:
        raise OSError("disk")
    except OSError:
        made(key="set", timeout_ms=1)
    assert coordination_client.passed == [WRITTEN, COMMITTED, "set"]


@pytest.mark.parametrize("stages", [[WRITTEN], [WRITTEN, COMMITTED]])
def test_the_others_hear_of_it_once(barrier, stages):
    made, coordination_client = barrier
    *before, last = stages
    for key in before:
        made(key=key, timeout_ms=1)
    coordination_client.values["ict_jax/failed_save/1"] = "disk"
    with pytest.raises(save_barrier.PeerFailed, match="could not write its part: disk") as caught:
        made(key=last, timeout_ms=1)
    try:
        raise caught.value
    except save_barrier.PeerFailed:
        made(key="set", timeout_ms=1)
    assert coordination_client.passed == [*stages, "set"]
    made.begin(30)
    made(key="_async_write_complete.30", timeout_ms=1)
