"""Saving and restoring the checkpoints of a run with Orbax."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ict_jax.checkpoints.directory import (
    complete_steps,
    damaged_steps,
    quarantine,
    remove_incomplete,
)
from ict_jax.checkpoints.integrity import (
    Damaged,
    compute_fingerprints,
    damaged_elsewhere,
    describe_error,
    read_fingerprints,
    read_items,
    read_json_item,
    require_state,
    require_unchanged,
    translate_read_errors,
)
from ict_jax.checkpoints.retention import SCORE, manager_options
from ict_jax.checkpoints.save_barrier import SaveBarrier
from ict_jax.config.training import Config
from ict_jax.core.errors import NotSaved, require
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none
from ict_jax.runtime.storage import io_errors, literal_path
from ict_jax.training.state import TrainState
from ict_jax.training.step import Metrics


class Checkpoints:
    """Checkpoints of a run, each with the items `state`, `ema`, `config` and `fingerprint`.

    `state` holds what training needs beside the EMA parameters in `ema`: step, parameters,
    optimizer state, key, teachers, and the running averages of the metrics, so that a resumed run
    logs the same values. `config` is the resolved config, and `fingerprint` verifies the others.
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
        """Open or create the directory, and remove the incomplete checkpoints of a killed run.

        Args:
          directory: of this run's checkpoints.
          scored: whether checkpoints have scores; then the best one is always kept.
          every_steps: number of steps between two checkpoints.
          keep_last: number of the newest checkpoints that are kept.
          keep_every_steps: checkpoints at its multiples are kept for good; None for none.
          stop_on_failed_save: whether the run stops when a checkpoint cannot be written, on a full
            disk for instance; otherwise it warns and goes on.

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
        async_options = self._barrier.async_options()
        self._options = manager_options(scored, keep_last, keep_every_steps, async_options)
        self._open()

    def _open(self) -> None:
        # Orbax would clean up in a thread that a short-lived process does not wait for.
        remove_incomplete(self._directory)
        with all_or_none(), translate_read_errors(self._directory, of_steps=True):
            directory = literal_path(self._directory)
            self._manager = ocp.CheckpointManager(directory, options=self._options)

    def latest_step(self) -> int | None:
        """Return the step of the newest checkpoint, None without one."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, window: Metrics, config: Config, *, score: float | None = None
    ) -> None:
        """Save in the background; return once the arrays are copied. Lower scores are better.

        Raises:
          NotSaved: this save or the previous one failed, and the run is to stop on that.
        """
        self.wait()
        step, saved = int(state.step), _without_ema(state, window)
        self._saving = step
        self._barrier.begin(step)
        try:
            marks = compute_fingerprints(config.to_dict(), state=saved, ema=state.ema_params)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(saved),
                    ema=ocp.args.StandardSave(state.ema_params),
                    config=ocp.args.JsonSave(config.to_dict()),
                    fingerprint=ocp.args.JsonSave(marks),
                ),
                # A step without a score is never the best.
                metrics={SCORE: float("inf") if score is None else score} if self._scored else None,
                force=True,
            )
        except (*io_errors(), ValueError, RuntimeError) as error:
            # The other processes know nothing of it and wait.
            self._handle_failed_save(error, alone=jax.process_count() > 1)

    def restore(
        self, step: int, abstract_state: TrainState, abstract_window: Metrics
    ) -> tuple[TrainState, Metrics]:
        """Restore state and metrics of a step in the shapes and shardings of the abstract ones.

        Raise `Damaged` if the checkpoint cannot be read, or is not what was saved.
        """
        path = self._directory / str(step)
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            items = read_items(
                path,
                state=ocp.args.StandardRestore(_without_ema(abstract_state, abstract_window)),
                ema=ocp.args.StandardRestore(abstract_state.ema_params),
            )
            config, saved = read_json_item(path, "config"), read_fingerprints(path)
        found = compute_fingerprints(config, state=items["state"], ema=items["ema"])
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            require_unchanged(path, saved, found)
        fields = dict(items["state"])
        window = fields.pop("window")
        return TrainState(ema_params=items["ema"], **fields), window

    def config(self, step: int) -> dict:
        """Return the resolved config of a checkpoint from which training can resume.

        Raise `Damaged` if the checkpoint cannot be read, `ArgumentError` if it has no state.
        """
        path = self._directory / str(step)
        with all_or_none(elsewhere=damaged_elsewhere(path)):
            require_state(path)
            config, saved = read_json_item(path, "config"), read_fingerprints(path)
            if saved is not None:
                require_unchanged(path, saved, compute_fingerprints(config))
        return config

    def read_newest(self, read: Callable[[int], Any]) -> Any:
        """Return `read(step)` of the newest checkpoint that is not damaged, None without any.

        Damaged checkpoints are reported and moved out of the way.

        Raises:
          ArgumentError: all of them are damaged, now or at an earlier start.
        """
        while (step := self.latest_step()) is not None:
            try:
                return read(step)
            except Damaged as error:
                target = quarantine(self._directory / str(step))
                self._manager.reload()
                say(f"WARNING: {error.reason}; it was moved to {target}")
        with all_or_none():
            damaged = damaged_steps(self._directory)
            require(
                not damaged,
                f"every checkpoint of this run was damaged, those of the steps {damaged}; copy a "
                "good one back into its checkpoints directory, or start anew in another --workdir.",
            )

    def poll(self) -> None:
        """Notice the end of a save in the background; raise as `wait` if it failed."""
        # Several processes notice it at different steps, and only `wait` makes them go on together.
        alone = self._stop_on_failed_save or jax.process_count() == 1
        if alone and self._saving is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Wait until every save has finished.

        Raises:
          NotSaved: one failed, and the run is to stop on that.
        """
        try:
            self._manager.wait_until_finished()
        except (*io_errors(), ValueError, RuntimeError) as error:
            self._handle_failed_save(error, alone=self._barrier.peers_unaware)
        self._saving = None

    def require_saved(self, step: int) -> None:
        """Raise `NotSaved` unless the last step of a run is saved."""
        if (newest := self.latest_step()) != step:
            raise NotSaved(
                f"the run is at its last step, {step}, and the newest checkpoint that could be "
                f"written is of step {newest}; make room, and run the same command again."
            )

    def _handle_failed_save(self, error: Exception, *, alone: bool = False) -> None:
        """Report a failed save, free the space it took, and stop the run if it is to stop."""
        step, self._saving, self._has_failed = self._saving, None, True
        stopping = self._stop_on_failed_save or alone
        self._abandoned = stopping and jax.process_count() > 1
        for _ in range(2):  # Orbax keeps all but one of several errors for later
            self.close()
        steps = complete_steps(self._directory)
        text = (
            f"the checkpoint of step {step} could not be saved "
            f"({describe_error(error, self._directory / str(step))}); the newest good one is "
            f"{self._directory / str(steps[-1]) if steps else 'none'}"
        )
        if not stopping:
            self._open()
            say(f"WARNING: {text}; going on, as checkpointing.stop_on_failed_save=False says")
            return
        if not self._abandoned:
            remove_incomplete(self._directory)
        lost = " (if a connection was lost, another process died first: see its message)"
        raise NotSaved(
            f"{text}. Make room or fix the disk{lost if self._abandoned else ''}, and run the same "
            "command again."
        )

    def close(self) -> None:
        """Wait for saves under way and free the resources."""
        reported = (*io_errors(), ValueError, RuntimeError) if self._has_failed else ()
        if not self._abandoned:  # otherwise the other processes would be waited for
            with contextlib.suppress(*reported):
                self._manager.close()


def _without_ema(state: TrainState, window: Metrics) -> dict[str, Any]:
    fields = {**vars(state), "window": window}
    dropped = {"ema_params"} if state.teachers else {"ema_params", "teachers"}
    return {name: value for name, value in fields.items() if name not in dropped}
