"""The page about a run: one file that needs nothing else."""

import datetime
import itertools
import statistics
from html import escape

from ict_jax import __version__
from ict_jax.evaluation.score_file import HELD_OUT_FILE
from ict_jax.run.provenance import FILE
from ict_jax.run.report.charts import MOST_POINTS, charts, require_matplotlib
from ict_jax.run.report.html import details, figure, paragraph, render_page, section, tiles
from ict_jax.run.report.png import PngImage, shrink
from ict_jax.run.report.read_run import KINDS, RunRecord
from ict_jax.run.report.score_tables import number, ratios_to_floor, rows_of, scores_section
from ict_jax.runtime.console import format_secs

SMALL = 331  # pixels, the width of small images: twice the most that the layout gives them
SHOWN_STARTS = 5  # the last ones
CONFIG_SUMMARY = "config.json, resolved: every value this run was made with"


def report(run: RunRecord) -> bytes:
    """Return the page in UTF-8.

    Raises:
      ArgumentError: matplotlib is not installed.
    """
    require_matplotlib()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    notes = [paragraph(note) for note in run.notes]
    parts = (
        _header(run),
        "<main>",
        _samples(run),
        scores_section(run),
        _training(run),
        section("Config", details(CONFIG_SUMMARY, run.config)),
        _environment(run),
        section("What could not be read", *notes) if notes else "",
        "</main>",
        paragraph(f"Made by ict_jax {__version__}, {now}.", "footer"),
    )
    return render_page(f"{run.name}: {_progress(run)}", "\n".join(parts))


def _progress(run: RunRecord) -> str:
    if run.finished:
        return f"finished at step {run.step:,}"
    return f"unfinished, at step {run.step:,} of {run.total_steps:,}"


def _header(run: RunRecord) -> str:
    """Show the name, the progress, and every fact that is a single number."""
    named = {
        "data set": run.section("data").get("name"),
        "network": run.section("model").get("name"),
        "batch size": run.config.get("batch_size"),
        "seed": run.config.get("seed"),
    }
    about = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
    facts = [
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in _facts(run).items()
    ]
    most = max(run.total_steps, 1)
    return (
        f"<header><h1>{escape(run.name)}</h1>{paragraph(about)}<p>"
        f'<progress value="{min(run.step, most)}" max="{most}" aria-label="share of the training '
        f'steps done"></progress><strong>{_progress(run)}</strong></p>'
        f"{tiles(facts, '9.5rem', tag='dl') if facts else ''}</header>"
    )


def _facts(run: RunRecord) -> dict[str, str]:
    """Return single numbers from the log, and the scores of samples as multiples of the floor."""
    facts = {}
    if run.stages:
        facts["noise levels N"] = f"{run.num_scales:,} of {run.stages[-1].num_scales:,}"
    if loss := run.scalars.get("train/loss"):
        facts["loss, last report"] = f"{loss[max(loss)]:.4g}"
    if rates := run.scalars.get("perf/images_per_sec"):
        facts["images/s, median"] = f"{statistics.median(rates.values()):,.0f}"
    if rates := run.scalars.get("perf/steps_per_sec"):
        spans = zip(itertools.pairwise([0, *rates]), rates.values(), strict=True)
        secs = sum((last - first) / rate for (first, last), rate in spans if rate > 0)
        facts["time in training"] = format_secs(secs)
    ratios = ratios_to_floor(rows_of(run.scores.get(HELD_OUT_FILE, {})))
    for kind, what in KINDS.items():
        if kind in ratios:
            facts[f"Fréchet distance ÷ floor, {what}"] = f"{ratios[kind]:.2f}"
    return facts


def _samples(run: RunRecord) -> str:
    """Show the newest grids, and those from during training."""
    parts = [tiles(_newest_grids(run), "22rem")]
    if not run.samples and not run.images.keys() & KINDS.keys():
        parts.insert(0, paragraph("There are no sample grids in this work directory yet."))
    for kind, what in KINDS.items():
        grids = {step: of_step[kind] for step, of_step in run.samples.items() if kind in of_step}
        if len(grids) < 2:
            continue
        title = f"In {what}, while training"
        if run.steps_with_samples > len(run.samples):
            title += f" ({len(grids)} of {run.steps_with_samples} grids)"
        figures = [
            _png_figure(
                shrink(grid, SMALL), f"Samples in {what} at step {step:,}", f"step {step:,}"
            )
            for step, grid in grids.items()
        ]
        parts += [f"<h3>{title}</h3>", tiles(figures, "9.5rem", most="30%")]
    return section("Samples", *parts)


def _newest_grids(run: RunRecord) -> list[str]:
    """Show the newest samples of each kind, from scoring if that is as new, and real images."""
    scores, newest = run.scores.get(HELD_OUT_FILE, {}), max(run.samples, default=0)
    scored = scores.get("step")
    figures = []
    for kind, what in KINDS.items():
        grid = run.samples.get(newest, {}).get(kind)
        step, second = newest, run.section("sampling").get("second_sigma")
        if kind in run.images and isinstance(scored, int) and scored >= newest:
            grid, step, second = run.images[kind], scored, scores.get("second_sigma")
        if grid is not None:
            caption = f"Samples in {what}, step {step:,}"
            if kind == "two_step":
                caption += f", second sigma {number(second, 'g')}"
            figures.append(
                _png_figure(grid, f"Grid of samples in {what} at step {step:,}", caption)
            )
    if real := run.images.get("real"):
        figures.append(_png_figure(real, "Grid of held-out real images", "Held-out real images"))
    elif data := run.images.get("data"):
        caption = "Real images of the training set"
        figures.append(_png_figure(data, "Grid of training images", caption))
    return figures


def _png_figure(image: PngImage, alt: str, caption: str) -> str:
    size = f'width="{image.width}" height="{image.height}"'
    return figure(image.png, "png", alt, caption, size)


def _training(run: RunRecord) -> str:
    """Show the charts, and say what the marks in them mean."""
    text = ""
    if not run.scalars:
        text = "Nothing has been logged in this work directory yet."
    elif run.stages:
        text = "Dashed lines mark where N, the number of noise levels, changes."
        if any(len(curve) > MOST_POINTS for curve in run.scalars.values()):
            text += " Where there are many reports, means of neighbouring ones are drawn."
    return section("Training", paragraph(text), tiles(charts(run), "24rem"))


def _environment(run: RunRecord) -> str:
    """Show what the last starts were made with."""
    parts = [
        details(
            f"started {start.get('time')} at step {start.get('step')}, {start.get('devices')}",
            start,
        )
        for start in run.starts[-SHOWN_STARTS:]
    ]
    if (earlier := len(run.starts) - SHOWN_STARTS) > 0:
        parts.append(paragraph(f"{earlier} earlier starts are in {FILE}."))
    return section("Environment", *parts) if parts else ""
