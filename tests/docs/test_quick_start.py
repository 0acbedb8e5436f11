"""Time and scores of the quick start in the README."""

import json
import time

import pytest

from tests.helpers import ROOT, command

MINUTES = 10


@pytest.mark.slow
def test_digits_reach_the_target():
    """Train, or score again the finished run that the README's first command left."""
    workdir = ROOT / "runs" / "digits"
    started = time.monotonic()
    result = command(
        "train", "--config=configs/digits.py", f"--workdir={workdir}", timeout=60 * MINUTES
    )
    print(f"{time.monotonic() - started:.0f} s\n{result.stdout[-1500:]}")
    assert result.returncode == 0, result.stderr
    scores = json.loads((workdir / "scores.json").read_text())["scores"]
    rows = [scores[name] for name in ("floor", "one_step", "two_step")]
    floor, one, two = (row["fd_classifier"]["value"] for row in rows)
    assert two <= one <= 1.5 * floor
    floor, *samples = (row["confident"]["value"] for row in rows)
    assert min(samples) >= floor - 0.05
    floor, one, _ = (row["nearest_training_image"]["median"] for row in rows)
    assert one > 0.75 * floor
