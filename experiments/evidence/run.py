"""Trains and scores the rows of a table, and keeps the results.

  python -m experiments.evidence.run --table path without mistakes --seeds 0 1 2
  python -m experiments.evidence.run --table path --minutes 45

Seed by seed, so that a part of the work gives whole tables of fewer seeds. It can be stopped at
any time and run again: finished runs are kept in experiments/evidence/results/TABLE.json, and a
begun one goes on from its last checkpoint in --workdir. With --minutes no further run begins
after so many. Of several commands at a time each needs its own tables and its own --workdir.
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
from ict_jax.runtime.storage import keep_compiled, write_at_once

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--workdir", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    keep_compiled()
    started = time.monotonic()
    made: dict[Any, Judge] = {}
    for seed, name in itertools.product(arguments.seeds, arguments.table):
        table = TABLES[name]
        with table.place.data():
            for row in table.rows:
                if time.monotonic() - started > 60 * arguments.minutes:
                    return
                print(f"== {name}: {row}, seed {seed}", flush=True)
                run_if_new(name, row, seed, arguments.workdir, arguments.results, made)


def run_if_new(
    table: str, name: str, seed: int, workdir: Path, results: Path, made: dict[Any, Judge]
) -> None:
    """Runs a row unless its result is there.

    What is not a loss that diverged, a full disk for instance, ends the command.

    Args:
      table: name of the table.
      name: of its row.
      seed: of the run.
      workdir: for the runs of all tables.
      results: directory of the results.
      made: the judges that have been made.
    """
    place, _, rows = TABLES[table]
    row, config = rows[name], TABLES[table].config(name, seed)
    runs = workdir / str(seed)
    if row.teacher is not None:
        key = "init_from" if config.objective.name in ("ect", "sct") else "diffusion_from"
        config[key] = str(runs / slug(f"{table} {row.teacher}"))
    own = runs / slug(f"{table} {name}")
    kept = any(other.teacher == name for other in rows.values())
    marks = identity(table, name, seed)
    before = read(results, table)
    if before.get(f"{name}, seed {seed}", {}).get("row") == marks and (own.exists() or not kept):
        return
    if "diverged" in before.get(f"{row.teacher}, seed {seed}", {}):
        write(results, table, f"{name}, seed {seed}", {"diverged": "its teacher", "row": marks})
        return
    if place.judge not in made:
        made[place.judge] = place.judge(config, workdir)
    judge = made[place.judge]
    if "floor" not in before:
        write(results, table, "floor", judge.floor())
    result = {**run(config, row.mistake, judge, own, marks), "row": marks}
    write(results, table, f"{name}, seed {seed}", result)
    print(json.dumps(result), flush=True)
    if not kept:
        shutil.rmtree(own)


def identity(table: str, name: str, seed: int) -> str:
    """Of what a row trains, and of its teacher; a result of another one does not count.

    It knows the config and the name of the mistake, not the code: after a change of a loss, of a
    mistake, of a place's data or of a judge, remove the results.
    """
    row = TABLES[table].rows[name]
    section = TABLES[table].config(name, seed).copy_and_resolve_references().to_dict()
    teacher = None if row.teacher is None else identity(table, row.teacher, seed)
    text = json.dumps([section, row.mistake.__name__, teacher], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """A name as a directory's."""
    return re.sub(r"\W+", "_", name)


def run(config: Any, mistake: Any, judge: Judge, workdir: Path, marks: str) -> dict[str, Any]:
    """Trains and scores one row, from what is in its directory if that is of the same row."""
    began = time.monotonic()
    marker = workdir / "row.txt"
    if not marker.exists() or marker.read_text() != marks:  # what was begun was another row
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
    """The results of a table so far, by row and seed."""
    path = directory / f"{table}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(directory: Path, table: str, name: str, result: dict[str, Any]) -> None:
    """Adds a result."""
    content = {**read(directory, table), name: result}
    write_at_once(directory / f"{table}.json", (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
