"""The page about a run of an earlier version of the code, from before its folders were moved.

`old_run/` is the work directory, without its checkpoints, that commit 0b4ba27 left after

  python -m ict_jax.cli.train --config=configs/digits.py:smoke --config.total_steps=10 \
    --config.checkpointing.every_steps=5 --config.logging.every_steps=1 \
    --config.logging.samples_every_steps=10 --config.evaluation.at_end=True --workdir=runs/digits

with its scores.json in the first, flat form; `old_run_scores.json` is what
`ict_jax.cli.evaluate` of the moved code wrote about the same checkpoint.
"""

import json
import shutil
from pathlib import Path

import pytest

from ict_jax.run.report.page import report
from ict_jax.run.report.read_run import read_run
from tests.run.report.made import Page

OLD_RUN = Path(__file__).with_name("old_run")
LOSSES = [5.9123, 5.3274, 5.5344, 5.0419, 5.0092, 5.4173, 5.2459, 4.8926, 5.0145, 4.4117]
"""As printed on the console while training."""


@pytest.fixture(scope="module", params=["flat", "today's"])
def record(request, tmp_path_factory):
    run = shutil.copytree(OLD_RUN, tmp_path_factory.mktemp("runs") / "digits")
    if request.param != "flat":
        shutil.copy(OLD_RUN.with_name("old_run_scores.json"), run / "scores.json")
    return read_run(run)


@pytest.fixture(scope="module")
def page(record):
    return Page(report(record))


def test_everything_is_read(record):
    assert not record.notes
    assert record.config == json.loads((OLD_RUN / "config.json").read_text())
    assert record.step == record.total_steps == 10 and record.finished
    assert [stage.num_scales for stage in record.stages] == [11, 21, 41]
    assert record.scalars["train/loss"] == pytest.approx(dict(enumerate(LOSSES, 1)), abs=5e-5)
    assert record.scalars["train/num_scales"][7] == 41
    assert list(record.samples[10]) == ["one_step", "two_step"]
    assert record.images.keys() == {"one_step", "two_step", "real", "data"}
    assert record.starts[0]["versions"]["ict_jax"] == "0.1.0"


def test_the_page_has_its_loss_curve_scores_and_config(page):
    charts = page.alts(charts=True)
    assert charts[0] == "Loss: 5.91 at step 1, 4.41 at step 10."
    assert charts[3] == "N(k) in 3 stages from 11 to 41 noise levels; at step 10 it is 41."
    assert len(charts) == 6
    for text in (
        "digits: finished at step 10 digits data set digits, network dense, batch size 32, seed 0",
        "loss, last report 4.412",
        "Fréchet distance ÷ floor, one step 133.66",
        "Samples in two steps, step 10, second sigma 0.833",
        "÷ floor fd classifier kid confident",
        "one step 300 133.66 49.1516 ± 0.2857 3.5460 ± 0.0352 0.0%",
        "two steps 300 71.70 26.3658 ± 0.2043 2.4630 ± 0.0321 38.7%",
        "floor: real against real 300 1.00 0.3677 ± 0.1144 0.0013 ± 0.0100 96.3%",
        "pure noise 300 41.15 15.1322 ± 0.1841",
        "held-out real images 2.137 1.433",
        "in features of classifier, against digits, test split; ± standard deviations of 20",
        '"total_steps": 10',
        '"ema_decay": 0.999',
        "at step 0, 1 cpu device(s)",
    ):
        assert text in page.text, text
    assert "Grid of samples in one step at step 10" in page.alts()
