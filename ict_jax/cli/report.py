"""Write one HTML page about a run: samples, scores, charts and config.

  python -m ict_jax.cli.report --workdir=runs/digits
  python -m ict_jax.cli.report --workdir=gs://bucket/runs/digits --out=digits.html

The page is a single file that needs no network and suits phones and large screens. It can also be
written while the run is still going on.
"""

import sys

from absl import flags

from ict_jax.cli import common
from ict_jax.core.errors import require


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    flags.DEFINE_string("workdir", None, "Work directory of a run.", flag_values=values)
    flags.DEFINE_string(
        "out",
        None,
        "Name of the page, ending in .html (default: report.html in the work directory).",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Read the run and write the page as the flags say."""
    workdir = common.required(values, "workdir", "--workdir=runs/digits")
    out = common.value(values, "out")
    require(
        out is None or out.endswith(".html"),
        f"--out={out} does not end in .html; name the page, as in --out=report.html.",
    )

    from ict_jax.run.report.page import report
    from ict_jax.run.report.read_run import read_run
    from ict_jax.runtime.console import say  # late: --help and mistakes answer at once
    from ict_jax.runtime.storage import to_path, write_atomically

    record = read_run(workdir)
    for note in record.notes:
        say(f"WARNING: {note}")
    path = to_path(workdir) / "report.html" if out is None else to_path(out)
    write_atomically(path, report(record), "--out")
    say(f"written: {path}")


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
