"""Charts as SVG within the page, whose colours follow its light or dark scheme."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from ict_jax.core.errors import ArgumentError
from ict_jax.core.schedules import Stage
from ict_jax.run.report.html import Element

SEQUENCE = 9
"""Colours that go from one to another in equal steps."""

# Matplotlib knows no CSS: it draws in stand-ins, which are replaced by variables of the page.
INK, LINE, ACCENT = "#0a0b01", "#0a0b02", "#0a0b03"
SEQUENTIAL = [f"#0a0c{index:02x}" for index in range(SEQUENCE)]
VARIABLES = {INK: "--ink", LINE: "--line", ACCENT: "--accent"} | {
    colour: f"--sequence-{index}" for index, colour in enumerate(SEQUENTIAL)
}

SIZE = (4.3, 2.7)  # inches; the width of a phone's screen shows the text at 9 pixels
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text as text
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
MOST_NAMED = 9  # stages whose N has room above a chart
XMLNS = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


def require_matplotlib() -> None:
    """Raises `ArgumentError` if charts cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            f"the charts of a report are drawn by matplotlib, which cannot be imported ({error}); "
            "run pip install matplotlib."
        ) from error


@contextlib.contextmanager
def drawing(name: str, alt: str) -> Iterator[tuple[Any, Element]]:
    """Axes to draw on, and the element that holds the drawing at the end.

    Args:
      name: unique in the page.
      alt: for those who do not see the chart.
    """
    import matplotlib
    from matplotlib.figure import Figure

    box = ElementTree.Element("div")
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=SIZE, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        yield axes, box
        text = io.StringIO()
        figure.savefig(
            text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    box.append(_inlined(text.getvalue(), alt))


def _inlined(text: str, alt: str) -> Element:
    """Matplotlib's SVG file as a part of the page."""
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    svg = ElementTree.fromstring(text)
    for part in svg.iter():
        part.tag = part.tag.removeprefix(XMLNS)
        if XLINK in part.attrib:
            part.set("href", part.attrib.pop(XLINK))
        if part.tag == "g":
            part.attrib.pop("id", None)  # the same in every chart; other names are salted
        for child in [c for c in part if c.tag in (f"{XMLNS}metadata", f"{XMLNS}style")]:
            part.remove(child)
    svg.attrib = {"viewBox": svg.attrib["viewBox"], "role": "img", "aria-label": alt}
    return svg


def step_axis(axes: Any, first: float, last: float) -> None:
    """The horizontal axis of training steps."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel("training step")
    axes.set_xlim(first, max(last, first + 1))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def log_axis(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers, more of them where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    subs = (1, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def mark_stages(axes: Any, stages: Sequence[Stage]) -> None:
    """A line where each stage of N(k) begins, with N above."""
    seen = [stage for stage in stages if stage.first_step < axes.get_xlim()[1]]
    for stage in seen[1:]:
        axes.axvline(stage.first_step, color=LINE, linewidth=0.8, linestyle=(0, (2, 2)))
    above = axes.secondary_xaxis("top")
    above.spines["top"].set_visible(False)
    above.patch.set_visible(False)
    above.tick_params(length=0, labelsize=8)
    named = seen[:: -(-len(seen) // MOST_NAMED)]
    labels = [f"{stage.num_scales:,}" for stage in named]
    labels[0] = f"N = {labels[0]}"
    above.set_xticks([stage.first_step for stage in named], labels, ha="left")


def colours_of(count: int) -> list[str]:
    """So many colours of the sequence, its ends among them."""
    return [SEQUENTIAL[round(i * (SEQUENCE - 1) / max(count - 1, 1))] for i in range(count)]


def sequence_css(low: float, high: float) -> str:
    """The variables of the sequence, from a part of matplotlib's viridis."""
    import matplotlib
    from matplotlib.colors import to_hex

    viridis = matplotlib.colormaps["viridis"]
    return "".join(
        f"{VARIABLES[colour]}:{to_hex(viridis(low + (high - low) * i / (SEQUENCE - 1)))};"
        for i, colour in enumerate(SEQUENTIAL)
    )
