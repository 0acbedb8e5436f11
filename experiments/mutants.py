"""Put faults into copies of the tree and see whether the tests notice each of them.

  python -m experiments.mutants                      # all; minutes
  python -m experiments.mutants --room core cli --jobs 2
  python -m experiments.mutants --survived           # those that no test noticed the last time

The faults are in `mutants.toml`; the test that noticed each, and the seconds it took, go to
`mutants.json`. A fault that survives, or whose place is not found, ends the command with 1.
"""

import argparse
import importlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from experiments.jobs import QUICK

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).with_suffix(".json")
TIMEOUT_SECS = 900
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "runs", "shared", "*.egg-info")
# Imported once, since nearly every test needs them; a fault's process is a fork of this one.
SHARED = ("jax.numpy", "flax.linen", "optax", "orbax.checkpoint", "pytest")


class Mutant(NamedTuple):
    """A fault: in `file`, `old` becomes `new`, and one of `tests` should fail."""

    room: str
    what: str
    file: str
    old: str
    new: str
    tests: str


def all_mutants() -> list[Mutant]:
    """Return the table."""
    rooms = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    return [Mutant(room, *row) for room, rows in rooms.items() for row in rows]


def place(mutant: Mutant, tree: Path) -> Path | None:
    """Return the file with exactly one copy of the old text; code may have moved in its room."""
    home = tree if mutant.room == "around" else tree / "ict_jax" / mutant.room
    for file in (home / mutant.file, *sorted(home.rglob("*.py"))):
        if file.is_file() and file.read_text().count(mutant.old) == 1:
            return file
    return None


class FirstFailure:
    """A pytest plugin that keeps the name of the test that failed."""

    name: str | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the name of a failed test, or of a file that cannot be collected."""
        if report.failed:
            self.name = self.name or report.nodeid

    pytest_collectreport = pytest_runtest_logreport


def _run_tests(tree: str, tests: str, results: Any) -> None:
    """Run the tests in a process of their own; send the exit code and the first failure."""
    import pytest

    os.setsid()  # so that processes that the tests start can be ended with them
    os.chdir(tree)
    os.environ["PYTHONPATH"] = tree
    sys.path[:] = [tree, *(path for path in sys.path if path not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.split(".")[0] == "experiments"]:
        del sys.modules[name]
    output = os.open("mutant_output.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1), os.dup2(output, 2)
    failure = FirstFailure()
    options = "-x -q -n0 -p no:cacheprovider -W ignore::pytest.PytestAssertRewriteWarning"
    options = [*options.split(), "-m", "", *shlex.split(tests)]
    results.send((int(pytest.main(options, plugins=[failure])), failure.name))


def try_mutant(mutant: Mutant, keep_output: Path | None) -> dict[str, Any]:
    """Return the result of a fault: killed by a test, survived, or stale."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant_") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        file = place(mutant, tree)
        row = {"room": mutant.room, "what": mutant.what, "tests": mutant.tests}
        if file is None:
            return {**row, "result": "stale: its old text is not there"}
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        context = get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run_tests, args=(str(tree), mutant.tests, theirs))
        process.start()
        process.join(TIMEOUT_SECS)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
        code, name = ours.recv() if ours.poll() else (-1, None)
        if keep_output is not None:
            name_of_file = f"{mutant.what.replace('/', '_')}.txt"
            shutil.copy(tree / "mutant_output.txt", keep_output / name_of_file)
    secs = round(time.monotonic() - started, 1)
    if code == 1 or name is not None:
        return {**row, "result": "killed", "by": name, "secs": secs}
    words = {0: "survived", 5: "no test is selected", -1: "killed the tests or took too long"}
    return {**row, "result": words.get(code, f"pytest ended with {code}"), "secs": secs}


def main() -> None:
    """Try the faults and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--room", nargs="+", help="rooms of ict_jax, or around; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--survived", action="store_true", help="those that were not killed")
    parser.add_argument("--output", type=Path, help="directory for what the tests print")
    given = parser.parse_args()
    before = {row["what"]: row for row in json.loads(FILE.read_text())} if FILE.exists() else {}
    every = all_mutants()
    chosen = [
        mutant
        for mutant in every
        if given.room is None or mutant.room in given.room
        if not given.survived or before.get(mutant.what, {}).get("result") != "killed"
    ]
    with tempfile.TemporaryDirectory(prefix="ict_jax_compiled_") as cache:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # as in tests/conftest.py
        os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ |= QUICK
        for module in SHARED:
            importlib.import_module(module)
        with ThreadPoolExecutor(given.jobs) as pool:
            for row in pool.map(lambda mutant: try_mutant(mutant, given.output), chosen):
                before[row["what"]] = row
                print(*(row.get(key, "") for key in ("room", "what", "result", "by")), sep="; ")
                rows = [before[m.what] for m in every if m.what in before]
                FILE.write_text(json.dumps(rows, indent=1) + "\n")
    bad = [row for row in rows if row["result"] != "killed"]
    print(f"{len(rows) - len(bad)} of {len(rows)} faults were noticed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
