"""The charts of a run, drawn by matplotlib."""

import contextlib
import io
import math
import statistics
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ict_jax.core.errors import ArgumentError
from ict_jax.run.report.events import Curve
from ict_jax.run.report.html import figure
from ict_jax.run.report.read_run import RunRecord

STYLE: dict[Any, Any] = {
    "figure.figsize": (4.3, 2.7),  # inches; at the width of a phone's screen text is 9 pt
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "ict_jax",  # fixed names, so that the same run gives the same file
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "legend.frameon": False,
}

MOST_NAMED = 9  # stages labelled with N; of more, every second, third, ... is
MOST_POINTS = 1000  # points of a curve; a longer one is averaged
LOG_FROM = 3  # ratio of the largest to the smallest value from which a scale is logarithmic
BY_SIGMA = "train/loss_by_sigma/"
SCORE_NAMES = {"validation_fd": ("Fréchet distance", " to the validation split, no FID")}
"""Names of some scores, and what the caption adds."""

Bin = tuple[float, float]


def require_matplotlib() -> None:
    """Raise `ArgumentError` if charts cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            f"the charts of a report are drawn by matplotlib, which cannot be imported ({error}); "
            "run pip install matplotlib."
        ) from error


def charts(run: RunRecord) -> list[str]:
    """Draw everything that was logged, each chart a figure with its caption."""
    figures: list[str] = []
    note = (
        "Mean over the batches since the previous report. Each doubling of N changes what the "
        "loss measures: compare within a stage."
    )
    _over_steps(figures, run, "train/loss", "Loss", "loss (no unit)", note)
    if bins := _sigma_bins(run.scalars):
        _loss_by_sigma(figures, run, bins)
        _last_loss_by_sigma(figures, run, bins)
    if run.stages:
        _curriculum(figures, run)
    for tag in sorted(tag for tag in run.scalars if tag.startswith("eval/")):
        name = "".join(filter(str.isprintable, tag.removeprefix("eval/")))  # as XML requires
        label, more = SCORE_NAMES.get(name, (name.replace("_", " "), ""))
        note = f"Of samples{more}; lower is better."
        _over_steps(figures, run, tag, f"Score: {label}", label, note)
    note = "Before the optimizer."
    _over_steps(figures, run, "train/grad_norm", "Gradient norm", "L2 norm (no unit)", note)
    note = "Without the time for samples, scores and checkpoints."
    _over_steps(figures, run, "perf/images_per_sec", "Speed", "images / s", note)
    return figures


@contextlib.contextmanager
def _chart(figures: list[str], title: str, alt: str, note: str) -> Iterator[Any]:
    """Yield axes to draw on, then add the chart to the figures."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        canvas = Figure()
        axes = canvas.subplots()
        axes.set_title(title)
        yield axes
        file = io.BytesIO()
        canvas.savefig(file, format="svg", metadata={"Date": None})
    figures.append(figure(file.getvalue(), "svg+xml", alt, note))


def _over_steps(
    figures: list[str], run: RunRecord, tag: str, title: str, label: str, note: str
) -> None:
    if curve := run.scalars.get(tag):
        with _chart(figures, title, _in_words(title, curve), note) as axes:
            _plot(axes, curve)
            _set_axes(axes, run, label, curve.values())


def _loss_by_sigma(figures: list[str], run: RunRecord, bins: dict[Bin, Curve]) -> None:
    words = [_in_words(f"Sigma {_bin_text(bin)}", curve) for bin, curve in bins.items()]
    alt = " ".join(["Loss by noise level over steps.", *words])
    note = "Examples whose larger noise level lies between the two numbers; data are in [-1, 1]."
    with _chart(figures, "Loss by noise level", alt, note) as axes:
        _cycle_colours(axes, len(bins))
        for bin, curve in bins.items():
            _plot(axes, curve, label=_bin_text(bin))
        values = [value for curve in bins.values() for value in curve.values()]
        _set_axes(axes, run, "loss (no unit)", values)
        axes.figure.set_figheight(3.5)
        axes.figure.legend(loc="outside lower center", ncols=3, title="sigma of the student")


def _last_loss_by_sigma(figures: list[str], run: RunRecord, bins: dict[Bin, Curve]) -> None:
    last = max(max(curve) for curve in bins.values())
    values = {bin: curve[last] for bin, curve in bins.items() if last in curve}
    words = [f"{value:.3g} at sigma {_bin_text(bin)}" for bin, value in values.items()]
    alt = f"Loss by noise level at step {last:,}: {', '.join(words)}"
    note = f"The last report, of step {last:,}."
    least, most = run.sigma_range
    with _chart(figures, "Loss by noise level, now", alt, note) as axes:
        _cycle_colours(axes, len(bins))
        for bin in bins:
            ends = (max(bin[0], least), min(bin[1], most))
            axes.plot(ends, 2 * [values.get(bin, math.nan)], linewidth=4)
        axes.set(xlabel="sigma of the student (data in [-1, 1])", ylabel="loss (no unit)")
        _make_log(axes, "x")
        _make_log(axes, "y", values.values())


def _curriculum(figures: list[str], run: RunRecord) -> None:
    steps = [stage.first_step for stage in run.stages] + [run.total_steps]
    levels = [stage.num_scales for stage in run.stages]
    alt = (
        f"N(k) in {len(levels)} stages from {levels[0]} to {levels[-1]} noise levels; at step "
        f"{run.step:,} it is {run.num_scales}."
    )
    note = (
        "The number of noise levels, over the whole run. The dot is where the run is: step "
        f"{run.step:,}, N = {run.num_scales:,}."
    )
    with _chart(figures, "Curriculum N(k)", alt, note) as axes:
        axes.stairs(levels, steps, baseline=None)
        axes.plot([run.step], [run.num_scales], "o", color="tab:blue", clip_on=False)
        _set_step_axis(axes, run.total_steps)
        axes.set_ylabel("N (noise levels)")
        axes.set_yscale("log", base=2)
        ticks = _thin_out(levels)
        axes.set_yticks(ticks, [f"{n:,}" for n in ticks])
        axes.minorticks_off()


def _set_axes(axes: Any, run: RunRecord, y_label: str, values: Collection[float]) -> None:
    """Set axes of values over steps; dashed lines mark where stages begin, with N above."""
    _set_step_axis(axes, run.step)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_formatter("{x:,g}")
    _make_log(axes, "y", values)
    stages = [stage for stage in run.stages if stage.first_step < max(run.step, 1)]
    for stage in stages[1:]:
        axes.axvline(stage.first_step, color="gray", linewidth=0.8, linestyle="--")
    if stages:
        top = axes.secondary_xaxis("top")
        top.spines["top"].set_visible(False)
        named = _thin_out(stages)
        labels = [f"{stage.num_scales:,}" for stage in named]
        labels[0] = f"N = {labels[0]}"
        top.set_xticks([stage.first_step for stage in named], labels, ha="left", fontsize=8)
        top.tick_params(length=0)


def _set_step_axis(axes: Any, last: int) -> None:
    axes.set_xlabel("training step")
    axes.set_xlim(0, max(last, 1))
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _make_log(axes: Any, which: str, values: Collection[float] | None = None) -> None:
    """Make axis x or y logarithmic, if `values` call for it, with plain numbers along it."""
    from matplotlib.ticker import LogLocator

    if values is not None and not is_wide(values):
        return
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 50 * low else (1,)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def _thin_out(items: list[Any]) -> list[Any]:
    """Return every second, third, ... item, at most `MOST_NAMED`."""
    return items[:: -(-len(items) // MOST_NAMED)]


def is_wide(values: Collection[float]) -> bool:
    """Return whether a logarithmic scale shows more of the values."""
    low, high = min(values), max(values)
    return 0 < LOG_FROM * low <= high < math.inf


def _cycle_colours(axes: Any, count: int) -> None:
    """Plot the next curves in colours from dark blue to green."""
    from matplotlib import colormaps

    axes.set_prop_cycle(color=colormaps["viridis"](np.linspace(0, 0.75, count)))


def _plot(axes: Any, curve: Curve, **options: Any) -> None:
    curve = average_points(curve)
    marker = "." if len(curve) < 40 else None
    axes.plot(list(curve), list(curve.values()), marker=marker, **options)


def average_points(curve: Curve) -> Curve:
    """Reduce a curve to at most `MOST_POINTS`, the means of equal numbers of neighbours."""
    size = max(math.ceil(len(curve) / MOST_POINTS), 1)
    steps, values = list(curve), list(curve.values())
    parts = range(0, len(curve), size)
    return {steps[i : i + size][-1]: statistics.fmean(values[i : i + size]) for i in parts}


def _in_words(what: str, curve: Curve) -> str:
    first, last = min(curve), max(curve)
    return f"{what}: {curve[first]:.3g} at step {first:,}, {curve[last]:.3g} at step {last:,}."


def _sigma_bins(scalars: dict[str, Curve]) -> dict[Bin, Curve]:
    """Return the curve of each bin of sigma, the smallest levels first."""
    bins = {}
    for tag, curve in scalars.items():
        if tag.startswith(BY_SIGMA) and curve:
            low, _, high = tag.removeprefix(BY_SIGMA).partition("-")
            with contextlib.suppress(ValueError):
                bins[float(low), float(high)] = curve
    return dict(sorted(bins.items()))


def _bin_text(bin: Bin) -> str:
    low, high = bin
    text = f"> {low:g}" if math.isinf(high) else f"{low:g}-{high:g}"
    return text if low else f"< {high:g}"
