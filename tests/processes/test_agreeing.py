"""What several processes agree on, with JAX's collectives replaced."""

import numpy as np
import pytest

from ict_jax import loop, processes, start
from ict_jax.core.errors import ArgumentError
from ict_jax.reading import Damaged
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
    processes.agree(values)
    two(lambda own: own + np.array([1, 0, 1], np.uint32))
    message = "have different values of the config and the code of ict_jax; start all of them"
    with pytest.raises(ArgumentError, match=message):
        processes.agree(values)


def test_identity_sees_the_code(monkeypatch, tmp_path):
    checked = start.check(smoke_config())
    before = loop.identity(checked)
    assert set(before) == {
        "the config",
        "the data it names",
        "the code of ict_jax",
        "the version of JAX",
    }
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "losses.py").write_text("changed = 1\n")
    monkeypatch.setattr(loop, "__file__", str(tmp_path / "loop.py"))
    after = loop.identity(checked)
    assert [what for what in before if before[what] != after[what]] == ["the code of ict_jax"]


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
        with processes.together(elsewhere=Damaged("damaged elsewhere")):
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
