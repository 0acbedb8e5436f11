"""The start of a run: check everything, build its parts, restore or initialise its state."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ict_jax import build, checks
from ict_jax.build import Config
from ict_jax.checkpoints import load_ema, locate
from ict_jax.console import say
from ict_jax.core.errors import require
from ict_jax.data import Batches, Dataset
from ict_jax.evaluation.run import Evaluator
from ict_jax.files import writable_directory
from ict_jax.metrics import RunLog
from ict_jax.pictures import image_grid, save_png
from ict_jax.sampler import Sampler
from ict_jax.store import DIRECTORY, Checkpoints
from ict_jax.training import parallel
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import Metrics, empty_metrics


class Checked(NamedTuple):
    """A resolved config and the parts of a run that touch no files."""

    config: Config
    batches: Batches
    mesh: Mesh
    evaluator: Evaluator


class Run(NamedTuple):
    """What a run is made of, besides its state."""

    config: Config
    workdir: Path
    batches: Batches
    mesh: Mesh
    checkpoints: Checkpoints
    log: RunLog
    evaluator: Evaluator

    def close(self) -> None:
        """Finishes what is being written."""
        self.log.close()
        self.checkpoints.close()


class Progress(NamedTuple):
    """State and the metrics since the last report, both on the devices."""

    state: TrainState
    window: Metrics


def check(config: Config) -> Checked:
    """Checks all of a config, without compiling or writing anything, and resolves it.

    Raises:
      ArgumentError: the first mistake found.
    """
    config, mesh, dataset = check_parts(config)
    assert dataset is not None
    evaluator = build.splat(
        "evaluation",
        build.sampling_arguments(config),
        Evaluator,
        dataset,
        Sampler(build.build_draw(config), mesh, **build.sampler_arguments(config)),
    )
    return Checked(config, build.build_batches(config, dataset), mesh, evaluator)


def check_parts(config: Config, *, with_data: bool = True) -> tuple[Config, Mesh, Dataset | None]:
    """Checks a config and resolves it.

    Args:
      config: as made by a file in `configs/`.
      with_data: whether to load the data; without it the config must state what comes from it.

    Raises:
      ArgumentError: the first mistake found.
    """
    require(
        jax.process_count() == 1,
        f"{jax.process_count()} processes were started and this version trains in one; start "
        "one, which uses all devices of its host.",
    )
    checks.check_config(config)
    mesh = build.splat("mesh", config.mesh, parallel.make_mesh)
    checks.check_batch(config, mesh)
    dataset = build.build_dataset(config) if with_data else None
    if dataset is not None:
        checks.check_classes(config, dataset)
    return checks.resolve(config, dataset), mesh, dataset


def open_run(checked: Checked, workdir: Path) -> Run:
    """Opens a locked work directory for a run.

    Raises:
      ArgumentError: something in it cannot be written to, or it holds another run.
    """
    config, batches, mesh, evaluator = checked
    for part in (workdir / DIRECTORY, workdir / "samples"):
        writable_directory(part, "--workdir")
    options = {**config.checkpointing, "scored": evaluator.every_steps is not None}
    with contextlib.ExitStack() as opened:
        checkpoints = build.splat("checkpointing", options, Checkpoints, workdir / DIRECTORY)
        opened.callback(checkpoints.close)
        refuse_changed_config(config, checkpoints)
        if config.init_from is not None and checkpoints.latest_step() is None:
            locate(config.init_from, what="--init_from")
        log = build.splat(
            "logging", config.logging, RunLog, workdir, config.total_steps, config.batch_size
        )
        opened.pop_all()
    text = json.dumps(config.to_dict(), indent=2)
    (workdir / "config.json").write_text(text + "\n")
    first = batches(0, slice(config.sampling.num_images))["image"]
    save_png(workdir / "data.png", image_grid(first))
    say(f"config, as stored in {workdir / 'config.json'} and in every checkpoint:\n{text}")
    return Run(config, workdir, batches, mesh, checkpoints, log, evaluator)


def refuse_changed_config(config: Config, checkpoints: Checkpoints) -> None:
    """Raises `ArgumentError` if the newest checkpoint was made with another config."""
    step = checkpoints.latest_step()
    if step is None:
        return
    checkpoints.require_state(step)
    # Through JSON, as the stored one went: tuples become lists.
    new = json.loads(json.dumps(config.to_dict()))
    keys = checks.differing_keys(checkpoints.config(step), new)
    require(
        not keys,
        f"--workdir holds a run with another config: {', '.join(keys)}; resume it with its own "
        "config, or give another --workdir.",
    )


def restore_or_init(run: Run) -> Progress:
    """The newest checkpoint of the run, or the state at step 0."""
    init_state = build.build_init_state(run.config)
    whole = parallel.replicated(run.mesh)

    def init() -> Progress:
        return Progress(init_state(), empty_metrics())

    abstract = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole), jax.eval_shape(init)
    )
    size = sum(a.size for a in jax.tree.leaves(abstract.state.params))
    say(f"{size:,} parameters on {run.mesh.size} {jax.default_backend()} device(s)")
    step = run.checkpoints.latest_step()
    if step is not None:
        say(f"resuming from step {step:,}")
        return Progress(*run.checkpoints.restore(step, abstract.state, abstract.window))
    progress = parallel.init_on_mesh(init, run.mesh)
    path = run.config.init_from
    if path is None:
        return progress
    loaded = load_ema(path, sharding=whole, what="--init_from")
    refuse_other_network(path, loaded.params, abstract.state.params)
    say(f"starting from the averaged parameters of step {loaded.step:,} in {path}")
    state = dataclasses.replace(
        progress.state, params=loaded.params, ema_params=jax.tree.map(jnp.copy, loaded.params)
    )
    return Progress(state, progress.window)


def refuse_other_network(path: str, loaded: Params, expected: Params) -> None:
    """Raises `ArgumentError` unless the two trees have the same names and shapes."""

    def shapes(tree: Params) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(name): leaf.shape for name, leaf in leaves}

    a, b = shapes(loaded), shapes(expected)
    different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    require(
        not different,
        f"--init_from={path} is another network: {len(different)} parameters differ, first "
        f"{different[:3]}; give a checkpoint of the same config.model.",
    )
