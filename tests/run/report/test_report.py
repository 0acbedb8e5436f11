"""The page about a run: what it says."""

import dataclasses
import itertools
import json
import math
import re
import shutil

import jax
import pytest
from etils import epath

from ict_jax.evaluation.grids import save_png
from ict_jax.run.provenance import record_start
from ict_jax.run.report import charts
from ict_jax.run.report.page import report
from ict_jax.run.report.read_run import SHOWN_STEPS, read_run
from tests.run.report.made import Page, make_run, picture, write_events


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "digits", validated=(10, 20))


def test_of_many_starts_the_last_ones_are_shown(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for step in range(1, 8):
        record_start(epath.Path(tmp_path / "run"), step=step, devices="2 devices")
    text = Page(report(read_run(tmp_path / "run"))).text
    assert [f"at step {k}, 2 devices" in text for k in range(1, 8)] == 2 * [False] + 5 * [True]
    assert "3 earlier starts are in environment.json" in text


@pytest.mark.parametrize("content", ["", "[1]", "{}", None])
def test_a_run_whose_environment_is_not_known_is_shown_without(run, tmp_path, content):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/environment.json").unlink()
    if content is not None:
        (tmp_path / "run/environment.json").write_text(content)
    assert "Environment" not in Page(report(read_run(tmp_path / "run"))).text


def test_a_diffusion_model_shows_its_samples(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for path in (tmp_path / "run/samples").glob("one_step_*.png"):
        path.rename(path.parent / path.name.replace("one_step", "heun"))
    for path in [
        *(tmp_path / "run").rglob("one_step*.png"),
        *(tmp_path / "run").rglob("two_*.png"),
    ]:
        path.unlink()
    page = Page(report(read_run(tmp_path / "run")))
    assert "There are no sample grids" not in page.text
    assert "Samples in Heun's steps at step 10" in page.alts()


@pytest.fixture(scope="module")
def page(run):
    return Page(report(read_run(run)))


def test_a_finished_run_is_shown_whole(page):
    for text in (
        "digits: finished at step 20 digits data set digits, network dense",
        "batch size 32, seed 0 finished at step 20",
        "noise levels N 41 of 41",
        "Fréchet distance ÷ floor, one step 2.07",
        "Samples in two steps, step 20, second sigma 3.42",
        "one step 300 2.07 0.5170 ± 0.1040 0.0250 ± 0.0100 97.4%",
        "floor: real against real 300 1.00 0.2500 ± 0.1140",
        "held-out real images 2.140 1.400",
        '"ema_decay": 0.999',
        "at step 0, 1 cpu device(s)",
        f'"jax": "{jax.__version__}"',
    ):
        assert text in page.text, text
    assert "What could not be read" not in page.text
    for text in ("loss (no unit)", "training step", "images / s", "L2 norm (no unit)"):
        assert text in page.text, text
    assert "< 0.01 0.01-0.03 0.03-0.1 0.1-0.3 0.3-1 1-3 3-10 10-30 > 30" in page.text
    titles = ["Loss", "Loss by noise level", "Loss by noise level, now", "Curriculum N(k)"]
    titles += ["Score: Fréchet distance", "Gradient norm", "Speed"]
    charts = page.alts(charts=True)
    assert len(charts) == len(titles) and all(title in page.text for title in titles)
    assert "N(k) in 3 stages from 11 to 41 noise levels; at step 20 it is 41." in charts
    assert page.alts() == [
        "Grid of samples in one step at step 20",
        "Grid of samples in two steps at step 20",
        "Grid of held-out real images",
        *(f"Samples in {what} at step {k}" for what in ("one step", "two steps") for k in (10, 20)),
    ]


def test_the_page_needs_nothing_else(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object"), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
        assert "http" not in attributes.get("style", ""), attributes
    policy = page.all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_is_accessible(page):
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_is_the_same_each_time_it_is_written(run):
    record = read_run(run)
    assert charts.charts(record) == charts.charts(record)


def test_every_name_is_escaped(tmp_path):
    name = "<b>&amp;'\"<script>"
    made = make_run(tmp_path / "<i>run&lt;", report_every=400, data={"name": name})
    rows = {"<s>": {"n": 3, "fd_<tt>": {"value": 1}}}
    scores = {"protocol": "<u>", "extractor": {"name": "<em>"}, "scores": rows, "step": 20}
    (made / "scores.json").write_text(json.dumps(scores))
    (made / "real.png").write_text("<em>")
    write_events(made, {20: {f"eval/$\\frac{tag}": 1.0 for tag in ("<tt>\x01", "\"onload='x'$")}})
    page = Page(report(read_run(made)))
    assert not [name for _, at in page.tags for name in at if name.startswith("on")]
    assert not {"b", "script", "i", "u", "s", "em", "tt"} & {tag for tag, _ in page.tags}
    for text in (name, "<i>run&lt;", "<u>", "<s> 3 - 1.0000", "of <em>", "fd <tt>", "$\\frac<tt>"):
        assert text in page.text, text


def test_of_steps_that_were_repeated_the_later_file_counts(tmp_path):
    made = make_run(tmp_path / "run", step=0)
    first, second = {}, {}
    for step in (5, 10, 15):
        first[step] = {"train/loss": 1.0 * step, "only/first": 1.0}
    for step in (10, 20):
        second[step] = {"train/loss": 100.0 * step}
    write_events(made, second)
    (later,) = made.glob("events*tfevents*")
    later.rename(made / "events.out.tfevents.1700000010.a.host.7.10")
    write_events(made, first)
    (earlier,) = set(made.glob("events*tfevents*")) - set(made.glob("*host.7.10"))
    earlier.rename(made / "events.out.tfevents.1700000010.a.host.7.9")
    curves = read_run(made).scalars
    assert list(curves["train/loss"].items()) == [(5, 5.0), (10, 1000.0), (20, 2000.0)]
    assert list(curves["only/first"]) == [5, 10, 15]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_clock_set_back_between_starts_drops_nothing(tmp_path, recorded):
    made = make_run(tmp_path / "run", total_steps=40, step=0)
    # Step, time of the start, time in the file's name, and the steps that were logged.
    starts = [(0, 900, 990, (5, 10, 15)), (10, 400, 410, (15, 20)), (20, 950, 995, (25, 30))]
    times = [{"step": step, "time": f"{time:04d}"} for step, time, *_ in starts]
    (made / "environment.json").write_text(json.dumps(times if recorded else []))
    for number, (_, _, named, steps) in enumerate(starts):
        known = set(made.iterdir())
        write_events(made, {step: {"train/loss": step + 100.0 * number} for step in steps})
        (new,) = set(made.iterdir()) - known
        new.rename(made / f"events.out.tfevents.{named}.host.7.0")
    curve = read_run(made).scalars["train/loss"]
    assert list(curve.items()) == [(5, 5), (10, 10), (15, 115), (20, 120), (25, 225), (30, 230)]


def test_a_run_begun_anew_in_its_directory_shows_its_new_steps(tmp_path):
    made = make_run(tmp_path / "run", step=0)
    times = [{"step": step, "time": str(time)} for step, time in ((0, 1), (100, 2), (0, 3))]
    (made / "environment.json").write_text(json.dumps(times))
    for number, steps in enumerate([(50, 100), (150, 200), (50,)]):
        known = set(made.iterdir())
        write_events(made, {step: {"train/loss": 1.0 + number} for step in steps})
        (new,) = set(made.iterdir()) - known
        new.rename(made / f"events.out.tfevents.{number + 1}.host.7.0")
    assert read_run(made).scalars["train/loss"] == {50: 3.0}


def test_grids_of_many_steps_are_chosen_far_apart(tmp_path):
    made = make_run(tmp_path / "run", total_steps=300, step=290, report_every=400)
    record = read_run(made)
    steps = list(record.samples)
    assert record.steps_with_samples == 29 and len(steps) == SHOWN_STEPS
    assert steps == sorted(steps) and steps[0] == 10 and steps[-1] == 290
    page = Page(report(record))
    assert "In one step, while training (12 of 29 grids)" in page.text
    assert "unfinished, at step 290 of 300" in page.text
    assert "Samples in two steps, step 290, second sigma 2" in page.text


def test_wide_grids_are_reduced_where_they_are_shown_small(tmp_path):
    made = make_run(tmp_path / "run", report_every=400)
    for file in (made / "samples").iterdir():
        save_png(epath.Path(file), picture(side=401))
    widths = [attributes["width"] for attributes in Page(report(read_run(made))).images()]
    assert widths == ["67", "67", "67", "331", "331", "331", "331"]


def test_a_run_that_has_left_nothing_yet(tmp_path):
    made = make_run(tmp_path / "run", step=0)
    (made / "data.png").unlink()
    page = Page(report(read_run(made)))
    for text in (
        "unfinished, at step 0 of 20",
        "There are no sample grids in this work directory yet.",
        "There are no scores in this work directory yet.",
        "and by python -m ict_jax.cli.evaluate.",
        "Nothing has been logged in this work directory yet.",
        "The dot is where the run is: step 0, N = 11.",
    ):
        assert text in page.text, text
    assert not page.images() and len(page.images(charts=True)) == 1


def test_the_newest_checkpoint_says_whether_a_run_is_finished(tmp_path):
    made = make_run(tmp_path / "run")
    (made / "checkpoints" / "20").rename(made / "checkpoints" / "10")
    record = read_run(made)
    assert record.step == 20 and not record.finished
    (made / "checkpoints" / "10").rmdir()
    assert read_run(made).finished  # as where only the page's files were kept


def test_pictures_of_older_scores_are_not_the_newest(tmp_path):
    made = make_run(tmp_path / "run", report_every=400)
    (made / "scores.json").write_text('{"step": 10, "second_sigma": 3.42}')
    text = Page(report(read_run(made))).text
    assert "Samples in two steps, step 20, second sigma 2" in text


def test_a_stage_begins_with_the_step_after_its_first(run):
    record = read_run(run)
    second = record.stages[1].first_step
    for step, levels in ((second, 11), (second + 1, 21), (0, 11)):
        assert dataclasses.replace(record, step=step).num_scales == levels


def test_scores_by_protocols_and_while_training_keep_their_names(tmp_path):
    made = make_run(tmp_path / "run", report_every=400)
    write_events(made, {10: {"eval/fid_of_5000": 9.0}})
    record = {
        "protocol": "cifar10-train-50k",
        "as_the_protocol": False,
        "step": 20,
        "extractor": {"name": "inception"},
        "reference": {"name": "cifar10, training split"},
        "scores": {
            "one_step": {
                "n": 500,
                "sigmas": [80.0],
                "fid": {"value": 2.83, "standard_error": 0.02},
                "inception_score": {"value": 9.5, "std_of_splits": 0.1},
            },
            "real": {"n": 300, "fid": {"value": 1.0, "standard_error": 0.01}},
        },
    }
    (made / "scores_cifar10-train-50k.json").write_text(json.dumps(record))
    text = Page(report(read_run(made))).text
    assert "protocol cifar10-train-50k; lower distances are better n ÷ floor fid inception" in text
    assert "one step 500 2.83 2.8300 ± 0.0200 9.5000 ± 0.1000 floor: real" in text
    assert "against real 300 1.00 1.0000 ± 0.0100 - At step 20" in text
    assert "against cifar10, training split; ± standard errors. Not with the number" in text
    assert text.index("moment-matched Gaussian") < text.index("cifar10-train-50k")
    assert "Score: fid of 5000" in text


def test_of_many_stages_only_some_are_named(tmp_path):
    made = make_run(tmp_path / "run", total_steps=40, discretization={"s0": 1, "s1": 2**12})
    text = Page(report(read_run(made))).text
    assert "N = 2 5 17 65 257 1,025 4,097" in text


def test_long_curves_are_drawn_by_their_means():
    curve = {step: float(step % 2) for step in range(1, 2 * charts.MOST_POINTS + 1)}
    thin = charts.average_points(curve)
    assert len(thin) == charts.MOST_POINTS and set(thin.values()) == {0.5}
    assert max(thin) == max(curve)
    short = {1: 2.0, 5: 3.0}
    assert charts.average_points(short) == short and charts.average_points({}) == {}


def test_scales_are_logarithmic_where_values_span_much():
    assert charts.is_wide([1.0, 3.0]) and not charts.is_wide([1.0, 2.9])
    assert not charts.is_wide([0.0, 9.0]) and not charts.is_wide([1.0, math.inf])


def test_stages_are_marked_where_they_begin(run, page):
    marks = [stage for stage in read_run(run).stages if stage.first_step < 20]
    assert page.text.count("N = 11") == 5 and len(marks) == 3
