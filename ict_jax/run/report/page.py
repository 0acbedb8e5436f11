"""The page about a run: one file that needs nothing else."""

import datetime
import itertools
import statistics
from html import escape

from ict_jax import __version__
from ict_jax.run.provenance import FILE
from ict_jax.run.report.charts import MOST_POINTS, charts, require_matplotlib
from ict_jax.run.report.html import figure, paragraph, section, tiles, unfolding, whole
from ict_jax.run.report.png import PngImage, reduced
from ict_jax.run.report.read_run import Left
from ict_jax.run.report.score_tables import distance_of, number, rows_of, scores_section
from ict_jax.runtime.console import format_secs

SMALL = 331
"""Pixels, the width of pictures that are shown small: twice as many as they take at most."""

SHOWN_STARTS = 5
"""Of the starts of a run the last ones are shown."""

KINDS = {"one_step": "one step", "two_step": "two steps", "heun": "Heun's steps"}

CONFIG_SUMMARY = "config.json, resolved: every value this run was made with"


def report(left: Left) -> bytes:
    """The page in UTF-8.

    Raises:
      ArgumentError: matplotlib is not installed.
    """
    require_matplotlib()
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = (
        _header(left),
        "<main>",
        _samples(left),
        scores_section(left),
        _training(left),
        section("Config", unfolding(CONFIG_SUMMARY, left.config)),
        _environment(left),
        _notes(left),
        "</main>",
        paragraph(f"Made by ict_jax {__version__}, {made}.", "footer"),
    )
    return whole(f"{left.name}: {_state(left)}", "\n".join(parts))


def _state(left: Left) -> str:
    if left.finished:
        return f"finished at step {left.step:,}"
    return f"unfinished, at step {left.step:,} of {left.total_steps:,}"


def _header(left: Left) -> str:
    """The name, the state, and what there is to say in one number."""
    facts = [
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in [*_training_facts(left), *_score_facts(left)]
    ]
    most = max(left.total_steps, 1)
    return (
        f"<header><h1>{escape(left.name)}</h1>{paragraph(_about(left))}<p>"
        f'<progress value="{min(left.step, most)}" max="{most}" aria-label="share of the training '
        f'steps done"></progress><strong>{_state(left)}</strong></p>'
        f"{tiles(facts, '9.5rem', tag='dl') if facts else ''}</header>"
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
    rows = rows_of(left.held_out_scores)
    floor = distance_of(rows.get("floor", {}))
    return [
        (f"Fréchet distance ÷ floor, {what}", f"{value / floor:.2f}")
        for name, what in KINDS.items()
        if (value := distance_of(rows.get(name, {}))) is not None and floor
    ]


def _samples(left: Left) -> str:
    """The newest grids, and how they came to be."""
    parts = [tiles([_shown(*each) for each in _newest(left)], "22rem")]
    if not left.samples and not left.pictures.keys() & KINDS.keys():
        parts.insert(0, paragraph("There are no sample grids in this work directory yet."))
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
        parts += [f"<h3>{title}</h3>", tiles(figures, "9.5rem", most="30%")]
    return section("Samples", *parts)


def _newest(left: Left) -> list[tuple[PngImage, str, str]]:
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


def _shown(picture: PngImage, alt: str, caption: str) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    return figure(picture.png, "png", alt, caption, size)


def _training(left: Left) -> str:
    """The charts, and what the marks in them mean."""
    text = ""
    if not left.scalars:
        text = "Nothing has been logged in this work directory yet."
    elif left.stages:
        text = "Dashed lines mark where N, the number of noise levels, changes."
        if any(len(curve) > MOST_POINTS for curve in left.scalars.values()):
            text += " Where there are many reports, means of neighbouring ones are drawn."
    return section("Training", paragraph(text), tiles(charts(left), "24rem"))


def _environment(left: Left) -> str:
    if not left.starts:
        return ""
    parts = [
        unfolding(
            f"started {start.get('time')} at step {start.get('step')}, {start.get('devices')}",
            start,
        )
        for start in left.starts[-SHOWN_STARTS:]
    ]
    if (earlier := len(left.starts) - SHOWN_STARTS) > 0:
        parts.append(paragraph(f"{earlier} earlier starts are in {FILE}."))
    return section("Environment", *parts)


def _notes(left: Left) -> str:
    notes = [paragraph(note) for note in left.notes]
    return section("What could not be read", *notes) if notes else ""
