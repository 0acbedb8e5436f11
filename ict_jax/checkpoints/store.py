"""Writing checkpoints with Orbax: those of a run while it trains, and imported weights."""

from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ict_jax.checkpoints.directory import (
    damaged_steps,
    is_whole,
    newest_whole,
    remove_half_written,
    set_aside,
)
from ict_jax.checkpoints.integrity import (
    Damaged,
    damaged_elsewhere,
    fingerprints,
    read_fingerprints,
    read_items,
    read_json,
    reading,
    reason_of,
    refuse_changed,
    require_state,
)
from ict_jax.checkpoints.retention import SCORE, manager_options
from ict_jax.checkpoints.save_barrier import SaveBarrier
from ict_jax.config.training import Config
from ict_jax.core.errors import NotSaved, require
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none
from ict_jax.runtime.storage import failures, literal
from ict_jax.training.state import TrainState
from ict_jax.training.step import Metrics


class Checkpoints:
    """Items of a step: `state`, `ema` and `config`, so that a checkpoint explains itself.

    `state` holds all that training needs beside the averaged parameters: step, parameters,
    optimizer state, key, teachers, and the running averages of the metrics, so that a resumed
    run logs the same numbers. `ema` holds the averaged parameters, `config` the resolved config.
    By the item `fingerprint` what is restored is compared with what was saved.
    """

    def __init__(
        self,
        directory: epath.Path,
        *,
        scored: bool,
        every_steps: int = 5000,
        keep_last: int = 2,
        keep_every_steps: int | None = None,
        stop_on_failed_save: bool = True,
    ):
        """Opens or creates the directory, and removes what a killed run left half-written.

        Args:
          directory: of this run's checkpoints.
          scored: whether scores are computed; then the best checkpoint is kept in any case.
          every_steps: steps between two checkpoints.
          keep_last: how many of the newest are kept.
          keep_every_steps: checkpoints at multiples of it are kept for good; None for none.
          stop_on_failed_save: whether a run stops when a checkpoint cannot be written, on a full
            disk for instance; otherwise it says so and goes on.

        Raises:
          ArgumentError: a number is below 1, or the directory cannot be read or written.
        """
        require(every_steps >= 1, f"checkpointing.every_steps={every_steps} must be at least 1.")
        self.every_steps = every_steps
        self._stop_on_failed_save = stop_on_failed_save
        self._saving: int | None = None
        self._has_failed = self._abandoned = False
        self._directory = directory
        self._scored = scored
        self._barrier = SaveBarrier()
        self._options = manager_options(
            scored=scored,
            keep_last=keep_last,
            keep_every_steps=keep_every_steps,
            async_options=self._barrier.async_options(),
        )
        self._open()

    def _open(self) -> None:
        # Orbax's own cleaning runs on in a thread that a short-lived process does not wait for.
        remove_half_written(self._directory)
        with all_or_none(), reading(self._directory, of_steps=True):
            self._manager = ocp.CheckpointManager(literal(self._directory), options=self._options)

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, None without one."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, window: Metrics, config: Config, *, score: float | None = None
    ) -> None:
        """Saves in the background; returns when the arrays are copied. Lower scores are better.

        Raises:
          NotSaved: this save, or the one before it, failed, and the run is to stop for it.
        """
        self.wait()
        step, kept = int(state.step), _without_ema(state, window)
        self._saving = step
        self._barrier.begin(step)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(kept),
                    ema=ocp.args.StandardSave(state.ema_params),
                    config=ocp.args.JsonSave(config.to_dict()),
                    fingerprint=ocp.args.JsonSave(
                        fingerprints(config.to_dict(), state=kept, ema=state.ema_params)
                    ),
                ),
                # A step without a score is never the best.
                metrics={SCORE: float("inf") if score is None else score} if self._scored else None,
                force=True,
            )
        except (*failures(), ValueError, RuntimeError) as error:
            # The others know nothing of it, and wait.
            self._failed(error, alone=jax.process_count() > 1)

    def restore(
        self, step: int, abstract_state: TrainState, abstract_window: Metrics
    ) -> tuple[TrainState, Metrics]:
        """State and metrics of a step, in the shapes and shardings of the abstract ones.

        Raises:
          Damaged: the checkpoint cannot be read, or is not what was saved.
        """
        path = self._directory / str(step)
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            items = read_items(
                path,
                state=ocp.args.StandardRestore(_without_ema(abstract_state, abstract_window)),
                ema=ocp.args.StandardRestore(abstract_state.ema_params),
            )
            config, saved = read_json(path, "config"), read_fingerprints(path)
        found = fingerprints(config, state=items["state"], ema=items["ema"])
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            refuse_changed(path, saved, found)
        fields = dict(items["state"])
        window = fields.pop("window")
        return TrainState(ema_params=items["ema"], **fields), window

    def config(self, step: int) -> dict:
        """The resolved config that a checkpoint was made with, if training can go on from it.

        Raises:
          Damaged: the checkpoint cannot be read.
          ArgumentError: it holds no state.
        """
        path = self._directory / str(step)
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            require_state(path)
            config, saved = read_json(path, "config"), read_fingerprints(path)
            if saved is not None:
                refuse_changed(path, saved, fingerprints(config))
        return config

    def set_aside(self, step: int) -> epath.Path:
        """Moves a damaged checkpoint out of the way, beside the directory of the good ones."""
        aside = set_aside(self._directory / str(step))
        self._manager.reload()
        return aside

    def damaged_steps(self) -> list[int]:
        """The steps of the damaged checkpoints that were set aside."""
        return damaged_steps(self._directory)

    def poll(self) -> None:
        """Notices a save in the background that has ended.

        Raises:
          NotSaved: it failed, and the run is to stop for it.
        """
        # Several processes notice it at different steps, and go on together from `wait` alone.
        alone = self._stop_on_failed_save or jax.process_count() == 1
        if alone and self._saving is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Returns when every save has been written whole.

        Raises:
          NotSaved: one failed, and the run is to stop for it.
        """
        try:
            self._manager.wait_until_finished()
        except (*failures(), ValueError, RuntimeError) as error:
            self._failed(error, alone=self._barrier.untold)
        self._saving = None

    def require_saved(self, step: int) -> None:
        """Raises `NotSaved` unless the last step of a run is saved."""
        newest = self.latest_step()
        if newest != step:
            raise NotSaved(
                f"the run is at its last step, {step}, and the newest checkpoint that could be "
                f"written is of step {newest}; make room, and run the same command again."
            )

    def _failed(self, error: Exception, *, alone: bool = False) -> None:
        """Says that a save failed; frees the space it took."""
        step, self._saving, self._has_failed = self._saving, None, True
        stopping = self._stop_on_failed_save or alone
        self._abandoned = stopping and jax.process_count() > 1
        for _ in range(2):  # of several errors Orbax keeps all but one for later
            self.close()
        if not stopping:
            self._open()
        elif not self._abandoned:
            remove_half_written(self._directory)
        good = newest_whole(self._directory) or "none"
        reason = reason_of(error, self._directory / str(step))
        text = (
            f"the checkpoint of step {step} could not be saved ({reason}); the newest good one is "
            f"{good}"
        )
        if stopping:
            lost = (
                " (if a connection was lost, another process died first: see what it says)"
                if self._abandoned
                else ""
            )
            raise NotSaved(
                f"{text}. Make room or mend the disk{lost}, and run the same command again."
            )
        say(f"WARNING: {text}; going on, as checkpointing.stop_on_failed_save=False says")

    def close(self) -> None:
        """Waits for saves under way and frees the resources."""
        if self._abandoned:  # one of several processes, which waits for no other
            return
        try:
            self._manager.close()
        except (*failures(), ValueError, RuntimeError):
            if not self._has_failed:
                raise  # otherwise it has been said


def _without_ema(state: TrainState, window: Metrics) -> dict[str, Any]:
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": state.key,
        "window": window,
        **({"teachers": state.teachers} if state.teachers else {}),
    }


def _remove_begun(step: epath.Path) -> None:
    """Removes what an import left that was killed or failed."""
    remove_half_written(step.parent)
    if step.exists() and not is_whole(step):  # in a bucket, where nothing is renamed
        step.rmtree()


def from_newest(checkpoints: Checkpoints, read: Callable[[int], Any]) -> Any:
    """`read(step)` of the newest checkpoint that is not damaged, None if there is no checkpoint.

    Damaged ones are named and set aside.

    Raises:
      ArgumentError: all of them are damaged, now or at an earlier start.
    """
    while (step := checkpoints.latest_step()) is not None:
        try:
            return read(step)
        except Damaged as error:
            aside = checkpoints.set_aside(step)
            say(f"WARNING: {error.reason}; it was moved to {aside}")
    with all_or_none():
        damaged = checkpoints.damaged_steps()
        require(
            not damaged,
            f"every checkpoint of this run was damaged, those of the steps {damaged}; copy a good "
            "one back into its checkpoints directory, or start anew in another --workdir.",
        )
