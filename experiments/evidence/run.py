"""Train and score the rows of tables, and keep the results.

  python -m experiments.evidence.run --table path without mistakes --seeds 0 1 2
  python -m experiments.evidence.run --table path --minutes 45

Seeds come one after the other, so that part of the work gives complete tables of fewer seeds. The
command can be stopped at any time and run again: finished results are kept in
experiments/evidence/results/TABLE.json, and an unfinished run resumes from its last checkpoint in
--workdir. After --minutes no further run begins. Commands that run at the same time need different
tables and different --workdir.
"""

import argparse
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.evidence.judges import Judge
from experiments.evidence.rows import TABLES
from ict_jax.core.errors import Diverged
from ict_jax.run import loop
from ict_jax.runtime.storage import enable_compilation_cache, write_atomically

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the rows that have no result yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--workdir", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    enable_compilation_cache()
    started = time.monotonic()
    judges: dict[Any, Judge] = {}
    for seed, name in itertools.product(arguments.seeds, arguments.table):
        table = TABLES[name]
        with table.place.data():
            for row in table.rows:
                if time.monotonic() - started > 60 * arguments.minutes:
                    return
                print(f"== {name}: {row}, seed {seed}", flush=True)
                run_if_new(name, row, seed, arguments.workdir, arguments.results, judges)


def run_if_new(
    table: str, name: str, seed: int, workdir: Path, results: Path, judges: dict[Any, Judge]
) -> None:
    """Run a row unless there is a result; any error but a divergence ends the command.

    Args:
      table: name of the table.
      name: name of its row.
      seed: seed of the run.
      workdir: directory for the runs of all tables.
      results: directory of the results.
      judges: judges made so far, by their factories; a new one is added.
    """
    place, _, rows = TABLES[table]
    row, config = rows[name], TABLES[table].config(name, seed)
    runs = workdir / str(seed)
    if row.teacher is not None:
        start = "init_from" if config.objective.name in ("ect", "sct") else "diffusion_from"
        config[start] = str(runs / slug(f"{table} {row.teacher}"))
    directory = runs / slug(f"{table} {name}")
    is_teacher = any(other.teacher == name for other in rows.values())
    key, marks, before = f"{name}, seed {seed}", identity(table, name, seed), read(results, table)
    known = before.get(key, {}).get("row") == marks
    if known and (directory.exists() or not is_teacher):
        return
    if "diverged" in before.get(f"{row.teacher}, seed {seed}", {}):
        write(results, table, key, {"diverged": "its teacher", "row": marks})
        return
    if place.judge not in judges:
        judges[place.judge] = place.judge(config, workdir)
    judge = judges[place.judge]
    if "floor" not in before:
        write(results, table, "floor", judge.floor())
    result = {**run(config, row.mistake, judge, directory, marks), "row": marks}
    write(results, table, key, result)
    print(json.dumps(result), flush=True)
    if not is_teacher:
        shutil.rmtree(directory)


def identity(table: str, name: str, seed: int) -> str:
    """Hash what a row and its teacher train; a result with another hash does not count.

    The hash covers the config and the name of the mistake, not the code: after a change of a loss,
    a mistake, a place's data or a judge, remove the results.
    """
    row = TABLES[table].rows[name]
    section = TABLES[table].config(name, seed).copy_and_resolve_references().to_dict()
    teacher = None if row.teacher is None else identity(table, row.teacher, seed)
    text = json.dumps([section, row.mistake.__name__, teacher], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """Turn a name into that of a directory."""
    return re.sub(r"\W+", "_", name)


def run(config: Any, mistake: Any, judge: Judge, workdir: Path, marks: str) -> dict[str, Any]:
    """Train and score one row, resuming from its directory if that belongs to the same row."""
    began = time.monotonic()
    marker = workdir / "row.txt"
    if not marker.exists() or marker.read_text() != marks:  # begun for another row
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        marker.write_text(marks)
    with mistake():
        try:
            loop.train(config, workdir)
            result = judge(workdir)
        except Diverged as error:
            result = {"diverged": str(error)}
    return {
        **result,
        "steps": config.total_steps,
        "batch_size": config.batch_size,
        "secs": round(time.monotonic() - began),
        "jax": jax.__version__,
        "ict_jax": metadata.version("ict_jax"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def read(directory: Path, table: str) -> dict[str, Any]:
    """Read the results of a table so far, by row and seed."""
    path = directory / f"{table}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(directory: Path, table: str, name: str, result: dict[str, Any]) -> None:
    """Add a result."""
    content = {**read(directory, table), name: result}
    write_atomically(directory / f"{table}.json", (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
