"""The training loop: steps, reports, samples, checkpoints, scores."""

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import ict_jax
from ict_jax.checkpoints.directory import DIRECTORY
from ict_jax.config.objective import build_discretization, has_levels
from ict_jax.config.sections import Config
from ict_jax.config.training import build_train_step, sizes_of
from ict_jax.core.discretization import num_scales_at
from ict_jax.evaluation.checkpoint import Model
from ict_jax.evaluation.grids import save_png
from ict_jax.evaluation.scoring import Request, prepare, score_model
from ict_jax.run.feed import feed, make_take
from ict_jax.run.initial_state import restore_or_init
from ict_jax.run.log import check_metrics
from ict_jax.run.setup import Checked, Progress, Run, check, open_run
from ict_jax.runtime import processes
from ict_jax.runtime.chips import find_chip
from ict_jax.runtime.console import best_effort, format_secs, say
from ict_jax.runtime.locks import locked_directory
from ict_jax.runtime.preemption import Interrupted, StopSignal
from ict_jax.runtime.storage import to_path
from ict_jax.training import parallel
from ict_jax.training.flops import count_flops
from ict_jax.training.state import Params
from ict_jax.training.step import Metrics, empty_metrics


def train(config: Config, workdir: str | os.PathLike) -> None:
    """Train to `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: from a file like those in `configs/`.
      workdir: directory for checkpoints, sample grids, scores and TensorBoard events, the same for
        all processes: on a shared disk, or gs://BUCKET/....

    Raises:
      ArgumentError: something in config or workdir is wrong; nothing was compiled.
      Diverged: a loss, gradient or parameter became NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as opened:
        with processes.all_or_none():
            workdir = to_path(workdir)
            checked = check(config)
            stop = opened.enter_context(StopSignal())
            if processes.is_main():
                opened.enter_context(locked_directory(workdir, "--workdir"))
        processes.require_agreement(identity(checked))
        processes.require_same_directory(workdir, "--workdir")
        run = open_run(checked, workdir)
        try:
            progress = run_steps(run, restore_or_init(run), stop)
            run.checkpoints.wait()
            run.checkpoints.require_saved(sizes_of(config).total_steps)
            if run.evaluator.at_end:
                run.log.flush()
                stop.stop_without_saving()
                write_scores(run, progress)
        finally:
            stop.saved = False
            run.close()
    say(f"done in {format_secs(time.monotonic() - started)}: {run.workdir}")


def identity(checked: Checked) -> dict[str, str]:
    """Return what all processes must share: config, data (size, first example), code, JAX."""
    first = checked.batches(0, slice(1))
    seen = [checked.batches.data.size, *(array.tolist() for array in first.values())]
    package = Path(ict_jax.__file__).parent
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return {
        "the config": json.dumps(checked.config.to_dict()),
        "the data it names": json.dumps(seen),
        "the code of ict_jax": code.hexdigest(),
        "the version of JAX": f"{jax.__version__} {metadata.version('jaxlib')}",
    }


def run_steps(run: Run, progress: Progress, stop: StopSignal) -> Progress:
    """Train from the state's step to the last one: step, report, draw, save, score, stop."""
    config, log, checkpoints = run.config, run.log, run.checkpoints
    first, total = int(progress.state.step), sizes_of(config).total_steps
    if first == total:
        return progress
    disc = build_discretization(config) if has_levels(config) else None
    feeds = feed(run.batches, run.mesh, first, total)
    first_fed = next(feeds)
    advance, flops = compile_step(run, progress, first_fed)
    pending: tuple[int, Metrics] | None = None

    def flush() -> None:
        """Write the pending report, if there is one."""
        nonlocal pending
        if pending is not None:
            step, window = pending
            num_scales = None if disc is None else int(num_scales_at(step - 1, disc))
            log.report(step, window, num_scales, _good(run))
        pending = None

    chip = find_chip(run.mesh.devices.flat[0].device_kind)
    peak = None if chip is None else chip.flops_per_sec * run.mesh.size / flops
    log.start_clock(first, peak_steps_per_sec=peak)
    for step, fed in enumerate(itertools.chain([first_fed], feeds), start=first + 1):
        progress = Progress(*advance(*progress, fed))
        flush()  # fetch the earlier step only after dispatching this one
        checkpoints.poll()
        if _due(step, log.every_steps) or step == total:
            pending = (step, progress.window)
            window = parallel.init_on_mesh(empty_metrics, run.mesh)
            progress = Progress(progress.state, window)
        stopping = stop.should_stop(step) and step < total
        draw_now = _due(step, log.samples_every_steps) or step == total
        score_now = _due(step, run.evaluator.every_steps)
        save_now = _due(step, checkpoints.every_steps) or score_now or step == total
        if not (draw_now or save_now or stopping):
            continue
        flush()
        check_metrics(step, progress.window, _good(run))
        with log.paused():
            if draw_now:
                write_samples(run, progress.state.ema_params, step)
            if save_now or stopping:
                save(run, progress, step, scored=score_now)
        if stopping:
            checkpoints.wait()
            raise Interrupted(
                f"stopped at step {step:,} and saved; to resume, run the same command again."
            )
    return progress


def compile_step(run: Run, progress: Progress, fed: dict[str, Any]) -> tuple[Callable, float]:
    """Compile the training step before throughput timing starts; also return its FLOPs."""
    started = time.monotonic()
    step = parallel.compile_train_step(
        build_train_step(run.config, run.mesh), run.mesh, make_take(run.batches)
    )
    traced = step.trace(*progress, fed)
    compiled = traced.lower().compile()
    say(f"compiled the training step in {time.monotonic() - started:.1f} s")
    return compiled, count_flops(traced.jaxpr)


def _due(step: int, every_steps: int | None) -> bool:
    return every_steps is not None and step % every_steps == 0


def _good(run: Run) -> str:
    saved = run.checkpoints.latest_step()
    if saved is None:
        return "the start (there is no checkpoint yet)"
    return f"checkpoint {run.workdir / DIRECTORY / str(saved)}"


def write_samples(run: Run, ema_params: Params, step: int) -> None:
    """Write grids of samples of fixed seeds, as PNG and for TensorBoard."""
    grids = run.evaluator.grids(ema_params)
    if processes.is_main():
        with best_effort("sample grids"):
            for name, image in grids.items():
                save_png(run.workdir / "samples" / f"{name}_{step:08d}.png", image)
    run.log.write_images(step, grids)


def write_scores(run: Run, progress: Progress) -> None:
    """Score the last step by the protocol held-out, as `ict-evaluate` does."""
    step, evaluator = int(progress.state.step), run.evaluator
    path = run.workdir / DIRECTORY / str(step)
    params, mesh = progress.state.ema_params, evaluator.grids.sampler.mesh
    model = Model(path, mesh, params, run.config, step, evaluator.dataset)
    request = Request(num_samples=evaluator.num_samples)
    score_model(prepare(model, request, comparison=lambda: evaluator.held_out))


def save(run: Run, progress: Progress, step: int, *, scored: bool) -> None:
    """Save a checkpoint, with its validation score if one is due."""
    score = None
    if scored:
        score = run.evaluator.score(progress.state.ema_params)
        run.log.write_scores(step, {run.evaluator.score_name: score})
    run.checkpoints.save(progress.state, progress.window, run.config, score=score)
