"""The quick start as the README gives it: time and scores."""

import json
import time

import pytest

from tests.helpers import ROOT, command

MINUTES = 10


@pytest.mark.slow
def test_digits_reach_the_target():
    """Trains, or scores again the finished run that the README's first command left."""
    workdir = ROOT / "runs" / "digits"
    started = time.monotonic()
    result = command(
        "train", "--config=configs/digits.py", f"--workdir={workdir}", timeout=60 * MINUTES
    )
    print(f"{time.monotonic() - started:.0f} s\n{result.stdout[-1500:]}")
    assert result.returncode == 0, result.stderr
    scores = json.loads((workdir / "scores.json").read_text())
    floor, one, two = (scores[name] for name in ("floor", "one_step", "two_step"))
    assert one["fd"] <= 1.5 * floor["fd"]
    assert two["fd"] <= one["fd"]
    assert min(one["confident"], two["confident"]) >= floor["confident"] - 0.05
    nearest = scores["nearest_training_image"]
    assert nearest["one_step"]["median"] > 0.75 * nearest["held_out"]["median"]
