"""Write the results into the tables of `docs/evidence.md`, and draw its figures.

  python -m experiments.evidence.tables

Over several seeds a number is the mean and the half-width of its 95% t-interval. Distances to the
true consistency function are means over the seeds.
"""

import argparse
import math
import re
import statistics
from typing import Any

from scipy import stats

from experiments.evidence.oracle import SIGMAS
from experiments.evidence.rows import TABLES
from experiments.evidence.run import RESULTS, read
from experiments.evidence.theory import IMAGES

SHOWN = tuple(f"{sigma:g}" for sigma in SIGMAS)
DOCUMENT = IMAGES.parent / "evidence.md"


def main() -> None:
    """Write and draw every table for which there are results."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    DOCUMENT.write_text(fill_in(DOCUMENT.read_text()))
    draw_over_sigma()
    draw_levels()


def fill_in(text: str) -> str:
    """Put the current results between <!-- TABLE --> and <!-- end --> in a document."""

    def table(match: re.Match[str]) -> str:
        results = read(RESULTS, match[1])
        lines = markdown(match[1], results) if results else "(no results yet)"
        return f"<!-- {match[1]} -->\n{lines}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def runs_of(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the results of a row, one per seed."""
    return [run for key, run in results.items() if key.rpartition(", seed ")[0] == name]


def markdown(table: str, results: dict[str, Any]) -> str:
    """Format a table in Markdown, rows in the order of their definition."""
    key = "fd" if "fd" in results["floor"] else "w2"
    references = results["floor"]["error"]  # empty if the truth is unknown
    heads = [f"floor {results['floor'][key]:.3f}", "seeds", "one step", "two steps"]
    scores = [heads]
    distances = [["distance to the truth at sigma =", *SHOWN]]
    distances += [
        [name, *(format_distance(error[s]) for s in SHOWN)] for name, error in references.items()
    ]
    for name in TABLES[table].rows:
        runs = runs_of(results, name)
        if not runs:
            continue
        cells = [name.strip(), str(len(runs))]
        good = [run for run in runs if "diverged" not in run]
        if len(good) < len(runs):
            cells[1] += f", {len(runs) - len(good)} diverged"
        if good and "heun" in good[0]:
            cells += [f"{interval([run['heun'][key] for run in good])} (40 levels)", ""]
        elif good:
            for kind in ("one_step", "two_step"):
                cells.append(interval([run[kind][key] for run in good]))
        scores.append(cells)
        if good and references:
            distances.append([name.strip(), *map(format_distance, errors(good))])
    return "\n\n".join(map(format_table, [scores, distances] if references else [scores]))


def format_table(rows: list[list[str]]) -> str:
    """Format cells as a table in Markdown, the first row as its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def format_distance(error: float) -> str:
    """Format a distance, without decimals if the network has diverged."""
    return f"{error:.3f}" if error < 1000 else f"{error:.0f}"


def errors(runs: list[dict[str, Any]]) -> list[float]:
    """Return the mean distance to the truth at each sigma."""
    return [statistics.mean(run["error"][sigma] for run in runs) for sigma in SHOWN]


def interval(values: list[float]) -> str:
    """Format the mean and the half-width of the 95% interval; a single value alone."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values)
    return f"{mean:.3f} +- {half / math.sqrt(len(values)):.3f}"


def axes_of(*names: str, margin: float = 0.0) -> tuple[Any, list[tuple[Any, dict[str, Any]]]]:
    """Return a figure, and axes with the results to draw, for each table that has results.

    Args:
      *names: names of the tables.
      margin: inches beside the axes.
    """
    from matplotlib.figure import Figure

    found = {name: results for name in names if (results := read(RESULTS, name))}
    figure = Figure((4.5 * len(found) + margin, 4), layout="constrained")
    all_axes = figure.subplots(1, len(found), squeeze=False)[0]
    all_axes[0].set(ylabel="distance to the true function")
    for axes, name in zip(all_axes, found, strict=True):
        axes.set(title="two numbers" if "mixture" in name else "digits")
    return figure, list(zip(all_axes, found.values(), strict=True))


def draw_over_sigma() -> None:
    """Draw the distance to the truth over sigma, by objective."""
    figure, found = axes_of("mixture_objectives", "objectives", margin=4)
    for axes, results in found:
        axes.set(xlabel="sigma")
        for index, name in enumerate(TABLES["objectives"].rows):
            runs = [run for run in runs_of(results, name) if "error" in run]
            if runs:
                style = {"color": f"C{index % 10}", "marker": "so"[index < 10]}
                axes.loglog(SIGMAS, errors(runs), label=name, **style)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(IMAGES / "distance_to_the_truth.svg", metadata={"Date": None})


def draw_levels() -> None:
    """Draw the distance to the truth over N, at three sigmas."""
    figure, found = axes_of("mixture_levels", "levels")
    for axes, results in found:
        axes.set(xlabel="N")
        drawn = {
            int(name.split()[-1]): runs
            for name in TABLES["levels"].rows
            if (runs := [run for run in runs_of(results, name) if "error" in run])
        }
        for sigma in ("0.5", "5", "80"):
            values = [
                statistics.mean(run["error"][sigma] for run in runs) for runs in drawn.values()
            ]
            axes.loglog(list(drawn), values, "o-", label=f"sigma = {sigma}")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(IMAGES / "levels.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
