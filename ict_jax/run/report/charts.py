"""What the charts of a run show."""

import contextlib
import math
import statistics
from collections.abc import Collection, Mapping
from typing import Any

from ict_jax.run.report import svg
from ict_jax.run.report.events import Curve
from ict_jax.run.report.html import Element, element
from ict_jax.run.report.read_run import Left

MOST_TICKS = 12
"""Of more numbers of levels every second, third, ... is written at the axis."""

MOST_POINTS = 1000
"""Of a longer curve the means of equal parts are drawn."""

LOG_FROM = 3
"""Scales are logarithmic if the largest value is so many times the smallest."""

SCORE = "eval/"
SCORE_NAMES = {"validation_fd": ("Fréchet distance", " to the validation split, no FID")}
"""How some scores are called, and what is said of them."""

BY_SIGMA = "train/loss_by_sigma/"


def charts(left: Left) -> list[Element]:
    """The charts of everything that was logged, each a figure with its title."""
    made = [
        _loss(left),
        _loss_by_sigma(left),
        _last_loss_by_sigma(left),
        _curriculum(left),
        *_scores_while_training(left),
        _gradient(left),
        _rate(left),
    ]
    return [figure for figure in made if figure is not None]


def _loss(left: Left) -> Element | None:
    return _over_steps(
        left,
        "Loss",
        "loss (no unit)",
        "train/loss",
        "Mean over the batches since the report before. Each doubling of N changes what the loss "
        "measures: compare within a stage.",
    )


def _gradient(left: Left) -> Element | None:
    return _over_steps(
        left, "Gradient norm", "L2 norm (no unit)", "train/grad_norm", "Before the optimizer."
    )


def _rate(left: Left) -> Element | None:
    return _over_steps(
        left,
        "Speed",
        "images / s",
        "perf/images_per_sec",
        "Without the time for samples, scores and checkpoints.",
        log=False,
    )


def _scores_while_training(left: Left) -> list[Element | None]:
    charts = []
    for tag in sorted(left.scalars):
        if tag.startswith(SCORE):
            name = tag.removeprefix(SCORE)
            label, note = SCORE_NAMES.get(name, (name.replace("_", " "), ""))
            note = f"Of samples{note}; lower is better."
            charts.append(_over_steps(left, f"Score: {label}", label, tag, note))
    return charts


def _over_steps(
    left: Left, title: str, y_label: str, tag: str, note: str, *, log: bool = True
) -> Element | None:
    """One curve over the steps so far."""
    curve = left.scalars.get(tag)
    if not curve:
        return None
    with svg.drawing(tag, _in_words(title, curve)) as (axes, box):
        _plot(axes, curve, svg.ACCENT)
        _axes(axes, left, y_label, log=log and is_wide(curve.values()), from_zero=not log)
    return _figure(title, box, note)


def _loss_by_sigma(left: Left) -> Element | None:
    bins = _sigma_bins(left.scalars)
    if not bins:
        return None
    alt = "Loss by noise level over steps. " + " ".join(
        _in_words(f"Sigma {_bin_text(bin)}", curve) for bin, curve in bins.items()
    )
    with svg.drawing("loss-by-sigma", alt) as (axes, box):
        colours = svg.colours_of(len(bins))
        for (bin, curve), colour in zip(bins.items(), colours, strict=True):
            _plot(axes, curve, colour, label=_bin_text(bin))
        values = [value for curve in bins.values() for value in curve.values()]
        _axes(axes, left, "loss (no unit)", log=is_wide(values))
        axes.figure.set_figheight(svg.SIZE[1] + 0.8)
        axes.figure.legend(loc="outside lower center", ncols=3, title="sigma of the student")
    return _figure(
        "Loss by noise level",
        box,
        "Examples whose larger noise level lies between the two numbers; data are in [-1, 1].",
    )


def _last_loss_by_sigma(left: Left) -> Element | None:
    bins = _sigma_bins(left.scalars)
    if not bins:
        return None
    last = max(max(curve) for curve in bins.values())
    found = {bin: curve[last] for bin, curve in bins.items() if last in curve}
    colours = dict(zip(bins, svg.colours_of(len(bins)), strict=True))
    alt = f"Loss by noise level at step {last:,}: " + ", ".join(
        f"{value:.3g} at sigma {_bin_text(bin)}" for bin, value in found.items()
    )
    least, most = left.sigma_range
    with svg.drawing("last-loss-by-sigma", alt) as (axes, box):
        for (low, high), value in found.items():
            ends = (max(low, least), min(high, most))
            axes.plot(ends, (value, value), color=colours[low, high], linewidth=4)
        axes.set(xlabel="sigma of the student (data in [-1, 1])", ylabel="loss (no unit)")
        axes.set_xscale("log")
        svg.log_axis(axes.xaxis)
        if is_wide(found.values()):
            axes.set_yscale("log")
            svg.log_axis(axes.yaxis)
    return _figure(
        "Loss by noise level, now",
        box,
        f"The last report, of step {last:,}.",
    )


def _curriculum(left: Left) -> Element | None:
    if not left.stages:
        return None
    steps = [stage.first_step for stage in left.stages] + [left.total_steps]
    levels = [stage.num_scales for stage in left.stages]
    now = left.num_scales
    alt = (
        f"N(k) in {len(levels)} stages from {levels[0]} to {levels[-1]} noise levels; at step "
        f"{left.step:,} it is {now}."
    )
    with svg.drawing("curriculum", alt) as (axes, box):
        axes.stairs(levels, steps, baseline=None, color=svg.ACCENT, linewidth=1.4)
        axes.plot([left.step], [now], "o", color=svg.ACCENT, markersize=7, clip_on=False)
        svg.step_axis(axes, 0, left.total_steps)
        axes.set_ylabel("N (noise levels)")
        axes.set_yscale("log", base=2)
        ticks = levels[:: -(-len(levels) // MOST_TICKS)]
        axes.set_yticks(ticks, [f"{n:,}" for n in ticks])
        axes.minorticks_off()
    return _figure(
        "Curriculum N(k)",
        box,
        "The number of noise levels, over the whole run. The dot is where the run is: step "
        f"{left.step:,}, N = {now:,}.",
    )


def _axes(axes: Any, left: Left, y_label: str, *, log: bool, from_zero: bool = False) -> None:
    svg.step_axis(axes, 0, left.step)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_formatter("{x:,g}")
    if log:
        axes.set_yscale("log")
        svg.log_axis(axes.yaxis)
    elif from_zero:
        axes.set_ylim(bottom=0)
    if left.stages:
        svg.mark_stages(axes, left.stages)


def is_wide(values: Collection[float]) -> bool:
    """Whether values are such that a logarithmic scale shows more of them."""
    low, high = min(values), max(values)
    return 0 < LOG_FROM * low <= high < math.inf


def _plot(axes: Any, curve: Curve, colour: str, **options: Any) -> None:
    curve = thinned(curve)
    marker = "." if len(curve) < 40 else None
    axes.plot(list(curve), list(curve.values()), color=colour, marker=marker, **options)


def _figure(title: str, box: Element, note: str) -> Element:
    return element("figure", element("h3", title), box, element("figcaption", note), class_="chart")


def thinned(curve: Curve) -> Curve:
    """At most `MOST_POINTS` points: the means of equal numbers of neighbours."""
    size = math.ceil(len(curve) / MOST_POINTS)
    points = list(curve.items())
    parts = [points[first : first + size] for first in range(0, len(points), max(size, 1))]
    return {part[-1][0]: statistics.fmean(value for _, value in part) for part in parts}


def _in_words(what: str, curve: Curve) -> str:
    first, last = min(curve), max(curve)
    return f"{what}: {curve[first]:.3g} at step {first:,}, {curve[last]:.3g} at step {last:,}."


def _sigma_bins(scalars: Mapping[str, Curve]) -> dict[tuple[float, float], Curve]:
    """The curve of each bin of sigma, the smallest levels first."""
    bins = {}
    for tag, curve in scalars.items():
        if tag.startswith(BY_SIGMA) and curve:
            low, _, high = tag.removeprefix(BY_SIGMA).partition("-")
            with contextlib.suppress(ValueError):
                bins[float(low), float(high)] = curve
    return dict(sorted(bins.items()))


def _bin_text(bin: tuple[float, float]) -> str:
    low, high = bin
    if low == 0:
        return f"< {high:g}"
    return f"> {low:g}" if math.isinf(high) else f"{low:g}-{high:g}"
