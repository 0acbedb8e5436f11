"""A training run from config to scores: set up, restore, train, score."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ict_jax import build
from ict_jax.build import Config
from ict_jax.checkpoints import DIRECTORY, Checkpoints, load_ema
from ict_jax.core.errors import require
from ict_jax.core.schedules import num_scales_at
from ict_jax.data import Batches
from ict_jax.evaluation.run import Evaluator
from ict_jax.files import writable_directory
from ict_jax.metrics import RunLog, check_finite, format_secs, say
from ict_jax.pictures import save_png
from ict_jax.sampler import Sampler
from ict_jax.stop import Interrupted, StopSignal
from ict_jax.training import parallel
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import Metrics, empty_metrics


class Run(NamedTuple):
    """What a run is made of, besides its state."""

    config: Config
    workdir: Path
    batches: Batches
    mesh: Mesh
    checkpoints: Checkpoints
    log: RunLog
    evaluator: Evaluator


class Progress(NamedTuple):
    """State and the metrics since the last report, both on the devices."""

    state: TrainState
    window: Metrics


def train(config: Config, workdir: str | Path, *, init_from: str | None = None) -> None:
    """Trains to `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: as made by a file in `configs/`.
      workdir: for checkpoints, sample grids, scores and TensorBoard events.
      init_from: checkpoint whose averaged parameters a new run starts from at step 0.

    Raises:
      ArgumentError: something in config or workdir is wrong; nothing was compiled.
      Diverged: the loss or a gradient became NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    started = time.monotonic()
    run = set_up(config, Path(workdir))
    try:
        progress = run_steps(run, restore_or_init(run, init_from))
        if run.evaluator.at_end:
            say("scoring: train a classifier, choose the second sigma, compare")
            run.evaluator.write_scores(
                run.workdir, progress.state.ema_params, int(progress.state.step)
            )
    finally:
        run.log.close()
        run.checkpoints.close()
    say(f"done in {format_secs(time.monotonic() - started)}: {run.workdir}")


def set_up(config: Config, workdir: Path) -> Run:
    """Checks everything that can be checked and builds the parts of a run."""
    build.check_config(config)
    mesh = build.splat("mesh", config.mesh, parallel.make_mesh)
    parallel.check_batch_size(config.batch_size, config.training.accumulation_steps, mesh)
    dataset = build.build_dataset(config)
    build.check_classes(config, dataset)
    config = build.resolve(config, dataset)
    batches = build.build_batches(config, dataset)
    sampler = Sampler(
        build.build_draw(config),
        mesh,
        sigma_min=config.precondition.sigma_min,
        num_classes=build.num_classes(config),
    )
    evaluator = build.splat(
        "evaluation", build.sampling_arguments(config), Evaluator, dataset, sampler
    )
    writable_directory(workdir, "--workdir")
    checkpoints = build.splat(
        "checkpointing", config.checkpointing, Checkpoints, workdir / DIRECTORY
    )
    refuse_changed_config(config, checkpoints)
    log = build.splat(
        "logging", config.logging, RunLog, workdir, config.total_steps, config.batch_size
    )
    text = json.dumps(config.to_dict(), indent=2)
    (workdir / "config.json").write_text(text + "\n")
    say(f"config, as stored in {workdir / 'config.json'} and in every checkpoint:\n{text}")
    return Run(config, workdir, batches, mesh, checkpoints, log, evaluator)


def refuse_changed_config(config: Config, checkpoints: Checkpoints) -> None:
    """Raises `ArgumentError` if the newest checkpoint was made with another config."""
    step = checkpoints.latest_step()
    if step is None:
        return
    # Through JSON, as the stored one went: tuples become lists.
    new = json.loads(json.dumps(config.to_dict()))
    keys = build.differing_keys(checkpoints.config(step), new)
    require(
        not keys,
        f"--workdir holds a run with another config: {', '.join(keys)}; resume it with its own "
        "config, or give another --workdir.",
    )


def restore_or_init(run: Run, init_from: str | None) -> Progress:
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
    if init_from is None:
        return progress
    loaded = load_ema(init_from, sharding=whole)
    refuse_other_network(init_from, loaded.params, abstract.state.params)
    say(f"starting from the averaged parameters of step {loaded.step:,} in {init_from}")
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


def run_steps(run: Run, progress: Progress) -> Progress:
    """Trains from the state's step to the last one, with all that happens on the way."""
    config, log, checkpoints = run.config, run.log, run.checkpoints
    first, total = int(progress.state.step), config.total_steps
    if first == total:
        return progress
    rows = parallel.local_rows(config.batch_size)
    disc = build.build_discretization(config)
    advance = _compile(run, progress, rows)
    saved = checkpoints.latest_step()
    pending: tuple[int, Metrics] | None = None

    def flush() -> None:
        """Writes the report that waits, if one does."""
        nonlocal pending
        if pending is not None:
            step, window = pending
            log.report(step, window, int(num_scales_at(step - 1, disc)), _good(run, saved))
        pending = None

    log.start_clock(first)
    with StopSignal() as stop:
        for step in range(first + 1, total + 1):
            batch = parallel.put_batch(run.batches(step - 1, rows), run.mesh)
            progress = Progress(*advance(*progress, batch))
            flush()  # an earlier step is fetched only now that this one has been dispatched
            if _due(step, log.every_steps) or step == total:
                pending = (step, progress.window)
                window = parallel.init_on_mesh(empty_metrics, run.mesh)
                progress = Progress(progress.state, window)
            stopping = stop.requested and step < total
            draw_now = _due(step, log.samples_every_steps) or step == total
            score_now = _due(step, run.evaluator.every_steps)
            save_now = _due(step, checkpoints.every_steps) or score_now or step == total
            if not (draw_now or save_now or stopping):
                continue
            flush()
            check_finite(step, progress.window, _good(run, saved))
            with log.paused():
                if draw_now:
                    write_samples(run, progress.state.ema_params, step)
                if save_now or stopping:
                    save(run, progress, step, scored=score_now)
                    saved = step
            if stopping:
                raise Interrupted(
                    f"stopped at step {step:,} and saved; to resume, run the same command again."
                )
    return progress


def _compile(run: Run, progress: Progress, rows: slice) -> Callable:
    """The jitted step, compiled before the clock of the rates starts."""
    started = time.monotonic()
    batch = parallel.put_batch(run.batches(0, rows), run.mesh)
    step = parallel.compile_train_step(build.build_train_step(run.config), run.mesh)
    compiled = step.lower(*progress, batch).compile()
    say(f"compiled the training step in {time.monotonic() - started:.1f} s")
    return compiled


def _due(step: int, every_steps: int | None) -> bool:
    return every_steps is not None and step % every_steps == 0


def _good(run: Run, saved: int | None) -> str:
    if saved is None:
        return "the start (there is no checkpoint yet)"
    return f"checkpoint {run.workdir / DIRECTORY / str(saved)}"


def write_samples(run: Run, ema_params: Params, step: int) -> None:
    """Grids of one-step and two-step samples of fixed seeds, as PNG and for TensorBoard."""
    grids = run.evaluator.grids(ema_params)
    for name, picture in grids.items():
        save_png(run.workdir / "samples" / f"{name}_{step:08d}.png", picture)
    run.log.images(step, grids)


def save(run: Run, progress: Progress, step: int, *, scored: bool) -> None:
    """Saves a checkpoint, with its validation score where one is due."""
    score = None
    if scored:
        score = run.evaluator.validation_score(progress.state.ema_params)
        run.log.score(step, {"validation_fd": score})
    run.checkpoints.save(progress.state, progress.window, run.config, score=score)
