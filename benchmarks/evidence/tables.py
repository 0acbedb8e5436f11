"""Prints the results as the tables of `docs/evidence.md`.

  python -m benchmarks.evidence.tables

Fréchet distances in the features of a classifier of the digits, n = 300; with several seeds the
mean and the half-width of its 95% t-interval; then the distance to the true consistency function.
"""

import argparse
import math
import statistics
from typing import Any

from scipy import stats

from benchmarks.evidence.oracle import SIGMAS
from benchmarks.evidence.rows import TABLES
from benchmarks.evidence.run import RESULTS, read

SHOWN = tuple(f"{sigma:g}" for sigma in SIGMAS)


def main() -> None:
    """Prints every table for which there are results."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for table in TABLES:
        if results := read(RESULTS, table):
            print(f"\n{table}\n\n{markdown(table, results)}")


def markdown(table: str, results: dict[str, Any]) -> str:
    """A table in Markdown, rows in the order of their definition."""
    lines = [
        f"| | seeds | one step | two steps | distance to the truth at sigma = {', '.join(SHOWN)} |",
        "|---|---|---|---|---|",
    ]
    for name in TABLES[table][1]:
        runs = [run for key, run in results.items() if key.rpartition(", seed ")[0] == name]
        if not runs:
            continue
        cells = [name.strip(), str(len(runs))]
        if any("diverged" in run for run in runs):
            cells += ["diverged", "", ""]
        elif "heun" in runs[0]:
            cells += [f"{interval([run['heun']['fd'] for run in runs])} (40 levels)", "", ""]
        else:
            for kind in ("one_step", "two_step"):
                cells.append(interval([run[kind]["fd"] for run in runs]))
            errors = [statistics.mean(run["error"][s] for run in runs) for s in SHOWN]
            cells.append(", ".join(f"{error:.3f}" for error in errors))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    """Mean and half-width of the 95% interval of several values; a single one as it is."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values)
    return f"{mean:.3f} +- {half / math.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    main()
