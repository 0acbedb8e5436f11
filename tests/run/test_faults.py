"""One to three of each fault of `experiments/faults.py`, on real processes."""

import os

import pytest

from experiments.faults import COUNTS, FAULTS, FEW
from experiments.trials import Trials

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return Trials(tmp_path_factory.mktemp("faults"), seed=int.from_bytes(os.urandom(4)))


VARIANT = "disk_of_two"
"""Of `disk` and `write_error_of_one`."""


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=[pytest.mark.variant] * (f == VARIANT)) for f in COUNTS]
)
def test_fault_is_survived(trials, fault, capsys):
    result = FAULTS[fault](trials, FEW.get(fault, 2))
    with capsys.disabled():
        print(f"\n{fault}: {result}")
    if result.startswith("left out"):
        pytest.skip(result)
