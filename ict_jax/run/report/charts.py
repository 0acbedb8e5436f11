"""The charts of a run, drawn by matplotlib."""

import contextlib
import io
import math
import statistics
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ict_jax.core.errors import ArgumentError
from ict_jax.run.report.events import Curve
from ict_jax.run.report.html import figure
from ict_jax.run.report.read_run import Left

STYLE: dict[Any, Any] = {
    "figure.figsize": (4.3, 2.7),  # inches; the width of a phone's screen shows the text at 9 pt
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "ict_jax",  # the same names, and so the same file, at each drawing
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "legend.frameon": False,
}

MOST_NAMED = 9
"""Of more stages N is written at every second, third, ... one."""

MOST_POINTS = 1000
"""Of a longer curve the means of equal parts are drawn."""

LOG_FROM = 3
"""Scales are logarithmic if the largest value is so many times the smallest."""

BY_SIGMA = "train/loss_by_sigma/"
SCORE = "eval/"
SCORE_NAMES = {"validation_fd": ("Fréchet distance", " to the validation split, no FID")}
"""How some scores are called, and what is said of them."""


def require_matplotlib() -> None:
    """Raises `ArgumentError` if charts cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            f"the charts of a report are drawn by matplotlib, which cannot be imported ({error}); "
            "run pip install matplotlib."
        ) from error


def charts(left: Left) -> list[str]:
    """The charts of everything that was logged, each a figure with its caption."""
    made: list[str] = []
    text = (
        "Mean over the batches since the report before. Each doubling of N changes what the loss "
        "measures: compare within a stage."
    )
    _over_steps(made, left, "train/loss", "Loss", "loss (no unit)", text)
    if bins := _sigma_bins(left.scalars):
        _loss_by_sigma(made, left, bins)
        _last_loss_by_sigma(made, left, bins)
    if left.stages:
        _curriculum(made, left)
    for tag in sorted(tag for tag in left.scalars if tag.startswith(SCORE)):
        name = "".join(filter(str.isprintable, tag.removeprefix(SCORE)))  # XML holds no others
        label, text = SCORE_NAMES.get(name, (name.replace("_", " "), ""))
        text = f"Of samples{text}; lower is better."
        _over_steps(made, left, tag, f"Score: {label}", label, text)
    text = "Before the optimizer."
    _over_steps(made, left, "train/grad_norm", "Gradient norm", "L2 norm (no unit)", text)
    text = "Without the time for samples, scores and checkpoints."
    _over_steps(made, left, "perf/images_per_sec", "Speed", "images / s", text)
    return made


@contextlib.contextmanager
def _chart(made: list[str], title: str, alt: str, note: str) -> Iterator[Any]:
    """Axes to draw on; the chart is added to those made."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawn = Figure()
        axes = drawn.subplots()
        axes.set_title(title)
        yield axes
        file = io.BytesIO()
        drawn.savefig(file, format="svg", metadata={"Date": None})
    made.append(figure(file.getvalue(), "svg+xml", alt, note))


def _over_steps(made: list[str], left: Left, tag: str, title: str, label: str, note: str) -> None:
    """One curve over the steps so far."""
    if curve := left.scalars.get(tag):
        with _chart(made, title, _in_words(title, curve), note) as axes:
            _plot(axes, curve, "tab:blue")
            _axes(axes, left, label, curve.values())


def _loss_by_sigma(made: list[str], left: Left, bins: dict[tuple[float, float], Curve]) -> None:
    alt = "Loss by noise level over steps. " + " ".join(
        _in_words(f"Sigma {_bin_text(bin)}", curve) for bin, curve in bins.items()
    )
    note = "Examples whose larger noise level lies between the two numbers; data are in [-1, 1]."
    with _chart(made, "Loss by noise level", alt, note) as axes:
        for (bin, curve), colour in zip(bins.items(), _colours(len(bins)), strict=True):
            _plot(axes, curve, colour, label=_bin_text(bin))
        values = [value for curve in bins.values() for value in curve.values()]
        _axes(axes, left, "loss (no unit)", values)
        axes.figure.set_figheight(3.5)
        axes.figure.legend(loc="outside lower center", ncols=3, title="sigma of the student")


def _last_loss_by_sigma(
    made: list[str], left: Left, bins: dict[tuple[float, float], Curve]
) -> None:
    last = max(max(curve) for curve in bins.values())
    found = {bin: curve[last] for bin, curve in bins.items() if last in curve}
    alt = f"Loss by noise level at step {last:,}: " + ", ".join(
        f"{value:.3g} at sigma {_bin_text(bin)}" for bin, value in found.items()
    )
    least, most = left.sigma_range
    note = f"The last report, of step {last:,}."
    with _chart(made, "Loss by noise level, now", alt, note) as axes:
        for (low, high), colour in zip(bins, _colours(len(bins)), strict=True):
            value = found.get((low, high), math.nan)
            ends = (max(low, least), min(high, most))
            axes.plot(ends, (value, value), color=colour, linewidth=4)
        axes.set(xlabel="sigma of the student (data in [-1, 1])", ylabel="loss (no unit)")
        _log(axes, "x")
        if is_wide(found.values()):
            _log(axes, "y")


def _curriculum(made: list[str], left: Left) -> None:
    steps = [stage.first_step for stage in left.stages] + [left.total_steps]
    levels = [stage.num_scales for stage in left.stages]
    now = left.num_scales
    alt = (
        f"N(k) in {len(levels)} stages from {levels[0]} to {levels[-1]} noise levels; at step "
        f"{left.step:,} it is {now}."
    )
    note = (
        "The number of noise levels, over the whole run. The dot is where the run is: step "
        f"{left.step:,}, N = {now:,}."
    )
    with _chart(made, "Curriculum N(k)", alt, note) as axes:
        axes.stairs(levels, steps, baseline=None)
        axes.plot([left.step], [now], "o", color="tab:blue", clip_on=False)
        _step_axis(axes, left.total_steps)
        axes.set_ylabel("N (noise levels)")
        axes.set_yscale("log", base=2)
        ticks = _some(levels)
        axes.set_yticks(ticks, [f"{n:,}" for n in ticks])
        axes.minorticks_off()


def _axes(axes: Any, left: Left, y_label: str, values: Collection[float]) -> None:
    """Axes of values over steps; dashed lines where stages of N(k) begin, with N above."""
    _step_axis(axes, left.step)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_formatter("{x:,g}")
    if is_wide(values):
        _log(axes, "y")
    stages = [stage for stage in left.stages if stage.first_step < max(left.step, 1)]
    for stage in stages[1:]:
        axes.axvline(stage.first_step, color="gray", linewidth=0.8, linestyle="--")
    if stages:
        above = axes.secondary_xaxis("top")
        above.spines["top"].set_visible(False)
        named = _some(stages)
        labels = [f"{stage.num_scales:,}" for stage in named]
        labels[0] = f"N = {labels[0]}"
        above.set_xticks([stage.first_step for stage in named], labels, ha="left", fontsize=8)
        above.tick_params(length=0)


def _step_axis(axes: Any, last: int) -> None:
    axes.set_xlabel("training step")
    axes.set_xlim(0, max(last, 1))
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _log(axes: Any, which: str) -> None:
    """Makes axis x or y logarithmic, with plain numbers, more of them where it spans little."""
    from matplotlib.ticker import LogLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 50 * low else (1,)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def _some(items: list[Any]) -> list[Any]:
    """Every second, third, ... item, so that there are at most `MOST_NAMED`."""
    return items[:: -(-len(items) // MOST_NAMED)]


def _colours(count: int) -> list[Any]:
    """So many colours from dark blue to green."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.75 * i / max(count - 1, 1)) for i in range(count)]


def is_wide(values: Collection[float]) -> bool:
    """Whether values are such that a logarithmic scale shows more of them."""
    low, high = min(values), max(values)
    return 0 < LOG_FROM * low <= high < math.inf


def _plot(axes: Any, curve: Curve, colour: Any, **options: Any) -> None:
    curve = thinned(curve)
    marker = "." if len(curve) < 40 else None
    axes.plot(list(curve), list(curve.values()), color=colour, marker=marker, **options)


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
