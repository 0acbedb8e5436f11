"""The page about a run: one file that needs nothing else."""

import datetime
import itertools
import json
import statistics
from collections.abc import Mapping
from typing import Any

from ict_jax import __version__
from ict_jax.run.provenance import FILE
from ict_jax.run.report.charts import MOST_POINTS, charts
from ict_jax.run.report.html import Element, element, image, to_html
from ict_jax.run.report.png import Picture, reduced
from ict_jax.run.report.read_run import Left
from ict_jax.run.report.score_tables import number, scores_section, value_of
from ict_jax.run.report.style import css
from ict_jax.run.report.svg import require_matplotlib
from ict_jax.runtime.console import format_secs

SMALL = 331
"""Pixels, the width of pictures that are shown small: twice as many as they take at most."""

SHOWN_STARTS = 5
"""Of the starts of a run the last ones are shown."""

KINDS = {"one_step": "one step", "two_step": "two steps", "heun": "Heun's steps"}

# Nothing is fetched and no script is run, whatever a name in the run may hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report(left: Left) -> bytes:
    """The page in UTF-8.

    Raises:
      ArgumentError: matplotlib is not installed.
    """
    require_matplotlib()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{left.name}: {_state(left)}"),
        element("style", css()),
    )
    sections = (
        _samples(left),
        scores_section(left),
        _training(left),
        _config(left),
        _environment(left),
        _notes(left),
    )
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = element(
        "body",
        _header(left),
        element("main", *sections),
        element("footer", f"Made by ict_jax {__version__}, {made}.", class_="soft"),
    )
    return to_html(element("html", head, body, lang="en"))


def _state(left: Left) -> str:
    if left.finished:
        return f"finished at step {left.step:,}"
    return f"unfinished, at step {left.step:,} of {left.total_steps:,}"


def _header(left: Left) -> Element:
    """The name, the state, and what there is to say in one number."""
    done = element(
        "progress",
        value=min(left.step, left.total_steps),
        max=max(left.total_steps, 1),
        aria_label="share of the training steps done",
    )
    state = element("strong", _state(left), class_="finished" if left.finished else "unfinished")
    facts = [
        element("div", element("dt", name), element("dd", value))
        for name, value in [*_training_facts(left), *_score_facts(left)]
    ]
    return element(
        "header",
        element("h1", left.name),
        element("p", _about(left), class_="soft"),
        element("div", done, state, class_="state"),
        element("dl", *facts, class_="facts") if facts else None,
    )


def _about(left: Left) -> str:
    """What was trained, in a line."""
    named = [
        ("data set", left.section("data").get("name")),
        ("network", left.section("model").get("name")),
        ("batch size", left.config.get("batch_size")),
        ("seed", left.config.get("seed")),
    ]
    return ", ".join(f"{what} {value}" for what, value in named if value is not None)


def _training_facts(left: Left) -> list[tuple[str, str]]:
    """Name and value of what the log says in one number."""
    facts = []
    if left.stages:
        facts.append(("noise levels N", f"{left.num_scales:,} of {left.stages[-1].num_scales:,}"))
    if loss := left.scalars.get("train/loss"):
        facts.append(("loss, last report", f"{loss[max(loss)]:.4g}"))
    if rates := left.scalars.get("perf/images_per_sec"):
        facts.append(("images/s, median", f"{statistics.median(rates.values()):,.0f}"))
    if rates := left.scalars.get("perf/steps_per_sec"):
        spans = zip(itertools.pairwise([0, *rates]), rates.values(), strict=True)
        secs = sum((last - first) / rate for (first, last), rate in spans if rate > 0)
        facts.append(("time in training", format_secs(secs)))
    return facts


def _score_facts(left: Left) -> list[tuple[str, str]]:
    """The distances of samples, as multiples of the floor."""
    scores = left.held_out_scores
    floor = value_of(scores, "floor", "fd")
    return [
        (f"Fréchet distance ÷ floor, {what}", f"{value / floor:.2f}")
        for name, what in KINDS.items()
        if (value := value_of(scores, name, "fd")) is not None and floor
    ]


def _samples(left: Left) -> Element:
    """The newest grids, and how they came to be."""
    shown = [_shown(*each) for each in _newest(left)]
    section = element("section", element("h2", "Samples"))
    if not left.samples and not left.pictures.keys() & KINDS.keys():
        section.append(element("p", "There are no sample grids in this work directory yet."))
    section.append(element("div", *shown, class_="newest"))
    for kind, what in KINDS.items():
        grids = {step: of_step[kind] for step, of_step in left.samples.items() if kind in of_step}
        if len(grids) < 2:
            continue
        title = f"In {what}, while training"
        if left.steps_with_samples > len(left.samples):
            title += f" ({len(grids)} of {left.steps_with_samples} grids)"
        figures = [
            _shown(reduced(grid, SMALL), f"Samples in {what} at step {step:,}", f"step {step:,}")
            for step, grid in grids.items()
        ]
        section.extend([element("h3", title), element("div", *figures, class_="earlier")])
    return section


def _newest(left: Left) -> list[tuple[Picture, str, str]]:
    """Picture, alternative text and caption of what is shown large."""
    scores, newest = left.held_out_scores, max(left.samples, default=0)
    found = []
    for kind, what in KINDS.items():
        step, second = newest, left.section("sampling").get("second_sigma")
        picture = left.samples.get(newest, {}).get(kind)
        scored = scores.get("step")
        if kind in left.pictures and isinstance(scored, int) and scored >= newest:
            picture, step, second = left.pictures[kind], scored, scores.get("second_sigma")
        if picture is not None:
            caption = f"Samples in {what}, step {step:,}"
            if kind == "two_step":
                caption += f", second sigma {number(second, 'g')}"
            found.append((picture, f"Grid of samples in {what} at step {step:,}", caption))
    real, data = left.pictures.get("real"), left.pictures.get("data")
    if real is not None:
        found.append((real, "Grid of held-out real images", "Held-out real images"))
    elif data is not None:
        found.append((data, "Grid of training images", "Real images of the training set"))
    return found


def _shown(picture: Picture, alt: str, caption: str) -> Element:
    return element("figure", image(*picture, alt=alt), element("figcaption", caption))


def _training(left: Left) -> Element:
    """The charts, and what the marks in them mean."""
    drawn = charts(left)
    section = element("section", element("h2", "Training"))
    if not left.scalars:
        section.append(element("p", "Nothing has been logged in this work directory yet."))
    elif left.stages:
        text = "Dashed lines mark where N, the number of noise levels, changes."
        if any(len(curve) > MOST_POINTS for curve in left.scalars.values()):
            text += " Where there are many reports, means of neighbouring ones are drawn."
        section.append(element("p", text, class_="soft"))
    section.append(element("div", *drawn, class_="charts"))
    return section


def _config(left: Left) -> Element:
    summary = "config.json, resolved: every value this run was made with"
    return element("section", element("h2", "Config"), _unfolding(summary, left.config))


def _environment(left: Left) -> Element | None:
    if not left.starts:
        return None
    section = element("section", element("h2", "Environment"))
    for start in left.starts[-SHOWN_STARTS:]:
        summary = f"started {start.get('time')} at step {start.get('step')}, {start.get('devices')}"
        section.append(_unfolding(summary, start))
    if (earlier := len(left.starts) - SHOWN_STARTS) > 0:
        text = f"{earlier} earlier starts are in {FILE}."
        section.append(element("p", text, class_="soft"))
    return section


def _unfolding(summary: str, content: Mapping[str, Any]) -> Element:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return element("details", element("summary", summary), element("pre", text, tabindex=0))


def _notes(left: Left) -> Element | None:
    if not left.notes:
        return None
    return element(
        "section",
        element("h2", "What could not be read"),
        element("ul", *(element("li", note) for note in left.notes)),
    )
