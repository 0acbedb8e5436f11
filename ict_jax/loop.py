"""A training run: steps, reports, samples, checkpoints, scores."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ict_jax import build
from ict_jax.build import Config
from ict_jax.console import format_secs, say
from ict_jax.core.discretization import num_scales_at
from ict_jax.feed import feed, make_take
from ict_jax.files import locked_directory
from ict_jax.metrics import check_finite
from ict_jax.pictures import save_png
from ict_jax.start import Progress, Run, check, open_run, restore_or_init
from ict_jax.stop import Interrupted, StopSignal
from ict_jax.store import DIRECTORY
from ict_jax.training import parallel
from ict_jax.training.state import Params
from ict_jax.training.step import Metrics, empty_metrics


def train(config: Config, workdir: str | Path) -> None:
    """Trains to `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: as made by a file in `configs/`.
      workdir: for checkpoints, sample grids, scores and TensorBoard events.

    Raises:
      ArgumentError: something in config or workdir is wrong; nothing was compiled.
      Diverged: a loss, gradient or parameter became NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    started = time.monotonic()
    workdir = Path(workdir)
    checked = check(config)
    with StopSignal() as stop, locked_directory(workdir, "--workdir"):
        run = open_run(checked, workdir)
        try:
            progress = run_steps(run, restore_or_init(run), stop)
            run.checkpoints.wait()
            if run.evaluator.at_end:
                if stop.requested:
                    stop.stop_here()
                stop.saved = True
                say("scoring: train a classifier, choose the second sigma, compare")
                run.evaluator.write_scores(
                    run.workdir, progress.state.ema_params, int(progress.state.step)
                )
        finally:
            stop.saved = False
            run.close()
    say(f"done in {format_secs(time.monotonic() - started)}: {run.workdir}")


def run_steps(run: Run, progress: Progress, stop: StopSignal) -> Progress:
    """Trains from the state's step to the last one, with all that happens on the way."""
    config, log, checkpoints = run.config, run.log, run.checkpoints
    first, total = int(progress.state.step), config.total_steps
    if first == total:
        return progress
    disc = build.build_discretization(config)
    feeds = feed(run.batches, run.mesh, first, total)
    first_fed = next(feeds)
    advance = compile_step(run, progress, first_fed)
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
    for step, fed in enumerate(itertools.chain([first_fed], feeds), start=first + 1):
        progress = Progress(*advance(*progress, fed))
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


def compile_step(run: Run, progress: Progress, fed: dict[str, Any]) -> Callable:
    """The jitted step, compiled before the clock of the rates starts."""
    started = time.monotonic()
    step = parallel.compile_train_step(
        build.build_train_step(run.config), run.mesh, make_take(run.batches)
    )
    compiled = step.lower(*progress, fed).compile()
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
