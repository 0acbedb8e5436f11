"""Orbax checkpoints that explain themselves: items `state`, `ema` and `config` per step."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ict_jax import build
from ict_jax.build import Config
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.typing import ConsistencyFn, Data, Sigmas
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import Metrics

SCORE = "score"
DIRECTORY = "checkpoints"


class Checkpoints:
    """The checkpoints of one run, written in the background.

    `state` holds all that training needs beside the averaged parameters: step, parameters,
    optimizer state, key, and the running averages of the metrics, so that a resumed run logs
    the same numbers. `ema` holds the averaged parameters, `config` the resolved config.
    """

    def __init__(
        self,
        directory: Path,
        *,
        every_steps: int = 1000,
        keep_last: int = 2,
        keep_every_steps: int | None = None,
    ):
        """Opens or creates the directory.

        Args:
          directory: of this run's checkpoints.
          every_steps: steps between two checkpoints.
          keep_last: how many of the newest are kept.
          keep_every_steps: checkpoints at multiples of it are kept for good; None for none.
            The one with the best score is kept in any case, where scores are computed.

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
        kept = [
            preservation_policy.LatestN(keep_last),
            preservation_policy.BestN(
                get_metric_fn=lambda metrics: metrics[SCORE],
                reverse=True,
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        if keep_every_steps is not None:
            kept.append(preservation_policy.EveryNSteps(keep_every_steps))
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            ),
        )

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, None without one."""
        return self._manager.latest_step()

    def save(
        self,
        state: TrainState,
        window: Metrics,
        config: Config,
        *,
        score: float | None = None,
    ) -> None:
        """Saves in the background; returns when the arrays are copied. Lower scores are better."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_without_ema(state, window)),
                ema=ocp.args.StandardSave(state.ema_params),
                config=ocp.args.JsonSave(config.to_dict()),
            ),
            metrics=None if score is None else {SCORE: score},
            force=True,
        )

    def restore(
        self, step: int, abstract_state: TrainState, abstract_window: Metrics
    ) -> tuple[TrainState, Metrics]:
        """State and metrics of a step, in the shapes and shardings of the abstract ones."""
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(_without_ema(abstract_state, abstract_window)),
                ema=ocp.args.StandardRestore(abstract_state.ema_params),
            ),
        )
        fields = dict(items["state"])
        window = fields.pop("window")
        return TrainState(ema_params=items["ema"], **fields), window

    def config(self, step: int) -> dict:
        """The resolved config that a checkpoint was made with."""
        items = self._manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))
        return items["config"]

    def wait(self) -> None:
        """Returns when every save has been written whole."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for saves under way and frees the resources."""
        self._manager.close()


def _without_ema(state: TrainState, window: Metrics) -> dict[str, Any]:
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": state.key,
        "window": window,
    }


class Loaded(NamedTuple):
    """Averaged parameters, and the config and step of their checkpoint."""

    params: Params
    config: Config
    step: int


def load_ema(
    path: str | Path, *, step: int | None = None, sharding: jax.sharding.Sharding | None = None
) -> Loaded:
    """Restores only what sampling needs, whatever devices the checkpoint was made on.

    Args:
      path: a work directory, its `checkpoints` directory, or one step in it.
      step: which checkpoint; default: the newest.
      sharding: where the parameters go; default: whole on the first device.

    Raises:
      ArgumentError: there is no whole checkpoint.
    """
    directory, step = locate(path, step)
    if sharding is None:
        sharding = SingleDeviceSharding(jax.devices()[0])
    item = directory / str(step)
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            config = ConfigDict(reader.restore(item / "config"))
        shapes = jax.eval_shape(build.build_init_params(config), jax.random.key(0))
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes
        )
        with ocp.StandardCheckpointer() as reader:
            params = reader.restore(item / "ema", abstract)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"the checkpoint {item} cannot be read ({type(error).__name__}: "
            f"{_first_line(error)}); it may be half-written, so choose another step or copy it "
            "again."
        ) from error
    return Loaded(params, config, step)


def load_consistency_fn(
    path: str | Path, *, step: int | None = None
) -> tuple[ConsistencyFn, Config]:
    """The consistency function of a checkpoint's averaged parameters, and its config.

    Args:
      path: a work directory, its `checkpoints` directory, or one step in it.
      step: which checkpoint; default: the newest.

    Returns:
      `f(x, sigma, labels=None)`, ready for `sample` and `jax.jit`, and the resolved config.

    Raises:
      ArgumentError: there is no whole checkpoint.
    """
    loaded = load_ema(path, step=step)
    bind, classes = build.build_bind(loaded.config), build.num_classes(loaded.config)

    def f(x: Data, sigma: Sigmas, labels: Any = None) -> Data:
        require(
            (labels is None) == (classes == 0),
            f"labels were {'not given' if labels is None else 'given'} and the model has "
            f"{classes or 'no'} classes; "
            + ("give one class per example." if classes else "leave them out."),
        )
        return bind(loaded.params, labels, None)(x, sigma)

    return f, loaded.config


def locate(path: str | Path, step: int | None = None) -> tuple[Path, int]:
    """The directory of checkpoints and the step that a path means.

    Raises:
      ArgumentError: nothing is there, or nothing whole, or not that step.
    """
    path = Path(path).absolute()
    require(path.exists(), f"--checkpoint={path} does not exist; give a work directory of a run.")
    require(
        path.is_dir() and "orbax-checkpoint-tmp" not in path.name,
        f"--checkpoint={path} is {'half-written' if path.is_dir() else 'a file'}, expected a "
        "work directory or a whole step in its checkpoints directory; choose another.",
    )
    if path.name.isdecimal():
        step, path = int(path.name), path.parent
    elif (path / DIRECTORY).is_dir():
        path = path / DIRECTORY
    steps = sorted(int(p.name) for p in path.iterdir() if p.is_dir() and p.name.isdecimal())
    if not steps:
        halves = [p.name for p in path.iterdir() if "orbax-checkpoint-tmp" in p.name]
        found = f"only the half-written {halves[0]}" if halves else "none"
        raise ArgumentError(
            f"--checkpoint={path} should hold checkpoints and holds {found}; train first, or "
            "give the work directory of another run."
        )
    require(
        step is None or step in steps,
        f"step {step} is not among the checkpoints {steps} of {path}; choose one of these.",
    )
    chosen = steps[-1] if step is None else step
    missing = [item for item in ("ema", "config") if not (path / str(chosen) / item).is_dir()]
    require(
        not missing,
        f"the checkpoint {path / str(chosen)} lacks {missing}: it is half-written or no "
        "checkpoint of ict_jax; choose another step.",
    )
    return path, chosen


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"
