"""From config sections to objects.

Each section is splatted into one callable, so its keys are that callable's keyword names
and its checks are that callable's checks. Beside this module only the start and the loop of a
run read configs: their top level, and which section goes to which of their own parts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ict_jax import models
from ict_jax.config.network import _precision, build_bind, build_init_params
from ict_jax.config.objective import (
    build_objective,
    check_precondition,
    denoiser_precondition,
    metric_network,
    teacher_names,
)
from ict_jax.config.sections import Config, splat
from ict_jax.core.errors import require
from ict_jax.core.objectives.base import Loss
from ict_jax.core.randomness import seed_key, split
from ict_jax.core.typing import Data, PerExample
from ict_jax.data import Batches, Dataset, load_data
from ict_jax.training.optimizers import make_optimizer
from ict_jax.training.parallel import gathering
from ict_jax.training.state import Params, TrainState, create_state
from ict_jax.training.step import Batch, Metrics, make_train_step


def build_dataset(config: Config) -> Dataset:
    """The data set of `config.data`."""
    return splat("data", config.data, load_data)


def build_batches(config: Config, dataset: Dataset) -> Batches:
    """The training batches in the order of `config.seed`."""
    return splat(
        "pipeline", config.pipeline, Batches, dataset.train, config.batch_size, config.seed
    )


def build_bind_loss(config: Config, network: models.LPIPS) -> Callable[[Params], Loss]:
    """`bind_loss(params)` -> the objective's loss, whose metric is a network of `params`."""
    precision = _precision(config)

    def bind_loss(params: Params) -> Loss:
        def metric(prediction: Data, target: Data, /) -> PerExample:
            with precision():
                distances: Any = network.apply({"params": params}, prediction, target)
                return distances

        return build_objective(config, metric).loss

    return bind_loss


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`."""
    return splat("optimizer", config.optimizer, make_optimizer)


def build_train_step(
    config: Config, mesh: Mesh | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pure training step of the whole config.

    Args:
      config: resolved.
      mesh: over which the parameters may be cut; default: they are whole.
    """
    check_precondition(config)
    check_derivable(config)
    objective, tx = build_objective(config), build_optimizer(config)
    precondition, metric = denoiser_precondition(config), metric_network(config)
    binds: dict[str, Callable[..., Any]] = {}
    binds["bind"] = build_bind(config, "none" if objective.of_network else None)
    if precondition is not None:
        binds["bind_denoiser"] = build_bind(config, precondition)
    if metric is not None:
        binds["bind_loss"] = build_bind_loss(config, metric)
    if mesh is not None:
        binds = {name: gathering(each, mesh) for name, each in binds.items()}
    make = functools.partial(make_train_step, binds.pop("bind"), objective, tx, **binds)
    return splat("training", config.training, make)


def check_derivable(config: Config) -> None:
    """Raises `ArgumentError` where the objective needs a derivative that the network has not."""
    require(
        not (build_objective(config).of_network and config.model.get("dtype") == "bfloat16"),
        f"config.objective.name={config.objective.name!r} takes the network's derivative along the "
        "noise level, which is not to be had in bfloat16; use config.model.dtype='float32'.",
    )


def build_init_state(config: Config) -> Callable[[], TrainState]:
    """`init_state()` -> the state at step 0, a function of `config.seed`."""
    init_params, tx = build_init_params(config), build_optimizer(config)
    objective = build_objective(config)
    names, metric = teacher_names(objective), metric_network(config)
    init_loss_params = objective.init_loss_params

    def init_state() -> TrainState:
        key_params, key_training = split(seed_key(config.seed))
        params = init_params(key_params)
        teachers = dict.fromkeys(names, params)
        if metric is not None:
            images = jnp.zeros((1, *config.image_shape), jnp.float32)
            teachers["metric"] = metric.init(key_params, images, images)["params"]
        loss_params = None if init_loss_params is None else init_loss_params(key_params)
        return create_state(params, tx, key_training, teachers, loss_params)

    return init_state


def ema_decay(config: Config) -> float:
    """Decay of the EMA parameters, that samples are drawn with."""
    return config.training.ema_decay
