"""Writing checkpoints with Orbax: those of a run while it trains, and imported weights."""

import shutil
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ict_jax.build import Config
from ict_jax.core.errors import ArgumentError, require
from ict_jax.files import writable_directory
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import Metrics

SCORE = "score"
DIRECTORY = "checkpoints"
HALF_WRITTEN = "orbax-checkpoint-tmp"  # in the name of a directory that a save has not finished


class Checkpoints:
    """Items of a step: `state`, `ema` and `config`, so that a checkpoint explains itself.

    `state` holds all that training needs beside the averaged parameters: step, parameters,
    optimizer state, key, and the running averages of the metrics, so that a resumed run logs
    the same numbers. `ema` holds the averaged parameters, `config` the resolved config.
    """

    def __init__(
        self,
        directory: Path,
        *,
        scored: bool,
        every_steps: int = 5000,
        keep_last: int = 2,
        keep_every_steps: int | None = None,
    ):
        """Opens or creates the directory, and removes what a killed run left half-written.

        Args:
          directory: of this run's checkpoints.
          scored: whether scores are computed; then the best checkpoint is kept in any case.
          every_steps: steps between two checkpoints.
          keep_last: how many of the newest are kept.
          keep_every_steps: checkpoints at multiples of it are kept for good; None for none.

        Raises:
          ArgumentError: a number below 1.
        """
        require(every_steps >= 1, f"checkpointing.every_steps={every_steps} must be at least 1.")
        require(keep_last >= 1, f"checkpointing.keep_last={keep_last} must be at least 1.")
        require(
            keep_every_steps is None or keep_every_steps >= 1,
            f"checkpointing.keep_every_steps={keep_every_steps} must be at least 1, or None.",
        )
        self.every_steps = every_steps
        self._directory = directory.absolute()
        self._scored = scored
        kept: list[Any] = [preservation_policy.LatestN(keep_last)]
        if scored:
            kept.append(preservation_policy.BestN(get_metric_fn=_score, reverse=True, n=1))
        if keep_every_steps is not None:
            kept.append(preservation_policy.EveryNSteps(keep_every_steps))
        # Orbax's own cleaning runs on in a thread that a short-lived process does not wait for.
        for half in self._directory.glob(f"*{HALF_WRITTEN}*"):
            shutil.rmtree(half)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(kept),
                best_fn=_score if scored else None,  # without it scores are not stored
                best_mode="min",
            ),
        )

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, None without one."""
        return self._manager.latest_step()

    def require_state(self, step: int) -> None:
        """Raises `ArgumentError` unless training can go on from a checkpoint."""
        path = self._directory / str(step)
        require(
            (path / "state").is_dir(),
            f"the checkpoint {path} cannot be read for training, since it has no state: if it is "
            "of imported weights, start from it in another --workdir with --init_from; if it is "
            "damaged, delete that directory to go on from the step before it.",
        )

    def save(
        self, state: TrainState, window: Metrics, config: Config, *, score: float | None = None
    ) -> None:
        """Saves in the background; returns when the arrays are copied. Lower scores are better."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_without_ema(state, window)),
                ema=ocp.args.StandardSave(state.ema_params),
                config=ocp.args.JsonSave(config.to_dict()),
            ),
            # A step without a score is never the best.
            metrics={SCORE: float("inf") if score is None else score} if self._scored else None,
            force=True,
        )

    def restore(
        self, step: int, abstract_state: TrainState, abstract_window: Metrics
    ) -> tuple[TrainState, Metrics]:
        """State and metrics of a step, in the shapes and shardings of the abstract ones.

        Raises:
          ArgumentError: the checkpoint is damaged.
        """
        items = self._read(
            step,
            state=ocp.args.StandardRestore(_without_ema(abstract_state, abstract_window)),
            ema=ocp.args.StandardRestore(abstract_state.ema_params),
        )
        fields = dict(items["state"])
        window = fields.pop("window")
        return TrainState(ema_params=items["ema"], **fields), window

    def config(self, step: int) -> dict:
        """The resolved config that a checkpoint was made with.

        Raises:
          ArgumentError: the checkpoint is damaged.
        """
        return self._read(step, config=ocp.args.JsonRestore())["config"]

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (OSError, KeyError, ValueError) as error:
            raise damaged(self._directory / str(step), error) from error

    def wait(self) -> None:
        """Returns when every save has been written whole."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for saves under way and frees the resources."""
        self._manager.close()


def damaged(path: Path, error: Exception) -> ArgumentError:
    """The sentence for a checkpoint that cannot be read."""
    lines = str(error).strip().splitlines() or ["no message"]
    return ArgumentError(
        f"the checkpoint {path} cannot be read ({type(error).__name__}: {lines[0][:200]}); delete "
        "that directory to go on from the step before it, or copy it again."
    )


def _score(metrics: dict[str, float]) -> float:
    return metrics[SCORE]


def _without_ema(state: TrainState, window: Metrics) -> dict[str, Any]:
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": state.key,
        "window": window,
    }


def write_ema(workdir: Path, params: Params, config: Config, step: int) -> Path:
    """Writes averaged parameters and their config as a checkpoint that can be sampled from.

    Args:
      workdir: holds no checkpoints yet.
      params: averaged parameters.
      config: the resolved config.
      step: names the checkpoint.

    Raises:
      ArgumentError: the directory cannot be written to, or holds checkpoints.
    """
    directory = workdir.absolute() / DIRECTORY
    writable_directory(directory, "--out")
    held = [path.name for path in directory.iterdir()]
    require(
        not held,
        f"--out={workdir} already holds the checkpoints {held[:3]}; give a new directory.",
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(
            directory / str(step),
            args=ocp.args.Composite(
                ema=ocp.args.StandardSave(params), config=ocp.args.JsonSave(config.to_dict())
            ),
        )
    return directory / str(step)
