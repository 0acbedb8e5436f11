"""Trains and scores the rows of a table, and keeps the results.

  python -m benchmarks.evidence.run --table path without mistakes --seeds 0 1 2
  python -m benchmarks.evidence.run --table path --minutes 45

Seed by seed, so that a part of the work gives whole tables of fewer seeds. It can be stopped at
any time and run again: finished runs are kept in benchmarks/evidence/results/TABLE.json, and a
begun one goes on from its last checkpoint in --workdir. With --minutes no further run begins
after so many.
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
import numpy as np

import ict_jax
from benchmarks.evidence import oracle
from benchmarks.evidence.rows import TABLES, Row
from ict_jax import build, loop
from ict_jax.checkpoints import load_ema
from ict_jax.evaluation.scores import Scorer, choose_second_sigma
from ict_jax.files import write_at_once
from ict_jax.metrics import Diverged
from ict_jax.sampler import Sampler
from ict_jax.training import parallel

RESULTS = Path(__file__).parent / "results"
NUM_SAMPLES = 5000


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
    parallel.keep_compiled()
    started, judge = time.monotonic(), None
    for seed, table in itertools.product(arguments.seeds, arguments.table):
        begin, rows = TABLES[table]
        for name, row in rows.items():
            config = (row.begin or begin)()
            config.seed = seed
            row.change(config)
            place = arguments.workdir / str(seed)
            workdir = place / slug(f"{table} {name}")
            kept = any(other.teacher == name for other in rows.values())
            if row.teacher is not None:
                key = "init_from" if config.objective.name in ("ect", "sct") else "diffusion_from"
                config[key] = str(place / slug(f"{table} {row.teacher}"))
            print(f"== {table}: {name}, seed {seed}", flush=True)
            marks = identity(row, config)
            found = read(arguments.results, table).get(f"{name}, seed {seed}", {})
            if found.get("row") == marks and (workdir.exists() or not kept):
                continue
            if time.monotonic() - started > 60 * arguments.minutes:
                return
            if judge is None:
                judge = Judge(config, arguments.workdir / "truth.npz")
            if "floor" not in read(arguments.results, table):
                write(arguments.results, table, "floor", judge.scorer.floor())
            result = {**run(config, row, judge, workdir), "row": marks}
            write(arguments.results, table, f"{name}, seed {seed}", result)
            print(json.dumps(result), flush=True)
            if not kept:
                shutil.rmtree(workdir)


def identity(row: Row, config: Any) -> str:
    """Of what a row trains; a result of another one does not count."""
    section = config.copy_and_resolve_references().to_dict()
    for path in ("init_from", "diffusion_from"):  # the places of this machine
        section[path] = section[path] is not None
    text = json.dumps([section, row.mistake.__name__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """A name as a directory's."""
    return re.sub(r"\W+", "_", name)


class Judge:
    """What the runs of all tables are scored by."""

    def __init__(self, config: Any, path: Path):
        """Trains the classifier, and solves the ODE of the training images."""
        dataset = build.build_dataset(config)
        self.scorer = Scorer(dataset, num_samples=NUM_SAMPLES)
        self.truth = oracle.truth(dataset, path)

    def __call__(self, workdir: Path) -> dict[str, Any]:
        """Scores of the samples, and distances to the true consistency function."""
        loaded = load_ema(workdir)
        config, bind = loaded.config, build.build_bind(loaded.config)
        mesh = parallel.make_mesh(num_devices=1)
        sampler = Sampler(build.build_draw(config), mesh, **build.sampler_arguments(config))

        def draw(sigmas: Any) -> np.ndarray:
            return sampler(loaded.params, range(NUM_SAMPLES), sigmas)

        if build.is_diffusion(config):
            return {"heun": self.scorer.score(draw(build.grid(config, None)))}

        @jax.jit
        def f(x: Any, sigma: Any, labels: Any) -> Any:
            return bind(loaded.params, labels, None)(x, sigma)

        disc = config.discretization
        second = choose_second_sigma(self.scorer, draw, disc.sigma_max, disc.sigma_min)
        return {
            "one_step": self.scorer.score(draw((disc.sigma_max,))),
            "two_step": self.scorer.score(draw((disc.sigma_max, second))),
            "second_sigma": second,
            "error": oracle.errors(f, self.truth),
        }


def run(config: Any, row: Row, judge: Judge, workdir: Path) -> dict[str, Any]:
    """Trains and scores one row."""
    began = time.monotonic()
    marker = workdir / "row.txt"
    marks = identity(row, config)
    if not marker.exists() or marker.read_text() != marks:  # what was begun was another row
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        marker.write_text(marks)
    with row.mistake():
        try:
            loop.train(config, workdir)
            result = judge(workdir)
        except (Diverged, ict_jax.ArgumentError) as error:  # of a teacher that diverged, too
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
