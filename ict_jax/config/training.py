"""Data, training step, initial state and sizes of a run, from its config.

Each section is passed to one callable, so its keys are that callable's keyword names, checked by
that callable. Only `ict_jax.config` reads values of a config.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, Sharding

from ict_jax import models
from ict_jax.config.network import build_bind, build_init_params, matmul_precision
from ict_jax.config.objective import (
    build_objective,
    check_objective,
    metric_network,
    objective_kind,
)
from ict_jax.config.sections import Config, build_section
from ict_jax.core.objectives.base import Loss
from ict_jax.core.randomness import seed_key, split
from ict_jax.core.typing import Data, PerExample
from ict_jax.data import Batches, Dataset, load_data
from ict_jax.training.optimizers import make_optimizer
from ict_jax.training.parallel import gather_params
from ict_jax.training.state import Params, TrainState, create_state
from ict_jax.training.step import Batch, Metrics, make_train_step


class Sizes(NamedTuple):
    """Sizes of a run; `remat` is None if the network cannot recompute its blocks."""

    total_steps: int
    batch_size: int
    accumulation_steps: int
    remat: bool | None

    @property
    def total_images(self) -> int:
        """Images of the whole run, repeated ones included."""
        return self.total_steps * self.batch_size


def sizes_of(config: Config) -> Sizes:
    """Return the sizes of a run."""
    steps = config.training.accumulation_steps
    return Sizes(config.total_steps, config.batch_size, steps, config.model.get("remat"))


def build_dataset(config: Config) -> Dataset:
    """Load the data set of `config.data`."""
    return build_section(config, "data", load_data)


def build_batches(config: Config, dataset: Dataset) -> Batches:
    """Build the training batches, in the order of `config.seed`."""
    return build_section(config, "pipeline", Batches, dataset.train, config.batch_size, config.seed)


def abstract_batch(
    config: Config, sharding: Sharding | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes and types of a batch of a resolved config."""
    size = (config.batch_size,)
    image = jax.ShapeDtypeStruct((*size, *config.image_shape), jnp.uint8, sharding=sharding)
    return {"image": image, "label": jax.ShapeDtypeStruct(size, jnp.int32, sharding=sharding)}


def build_bind_loss(config: Config, network: models.LPIPS) -> Callable[[Params], Loss]:
    """Build `bind_loss(params)` -> the loss whose metric is `network` with these parameters."""
    precision = matmul_precision(config)

    def bind_loss(params: Params) -> Loss:
        def metric(prediction: Data, target: Data, /) -> PerExample:
            with precision():
                distances: Any = network.apply({"params": params}, prediction, target)
                return distances

        return build_objective(config, metric).loss

    return bind_loss


def build_train_step(
    config: Config, mesh: Mesh | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Build the pure training step of a resolved config; parameters may be sharded over `mesh`."""
    check_objective(config)
    objective, tx = build_objective(config), build_section(config, "optimizer", make_optimizer)
    precondition, metric = objective_kind(config).denoiser, metric_network(config)
    binds: dict[str, Callable[..., Any]] = {}
    binds["bind"] = build_bind(config, "none" if objective.of_network else None)
    if precondition is not None:
        binds["bind_denoiser"] = build_bind(config, precondition)
    if metric is not None:
        binds["bind_loss"] = build_bind_loss(config, metric)
    if mesh is not None:
        binds = {name: gather_params(each, mesh) for name, each in binds.items()}
    bind = binds.pop("bind")
    return build_section(config, "training", make_train_step, bind, objective, tx, **binds)


def build_init_state(config: Config) -> Callable[[], TrainState]:
    """Build `init_state()` -> the state at step 0, a function of `config.seed`."""
    init_params, objective = build_init_params(config), build_objective(config)
    tx = build_section(config, "optimizer", make_optimizer)
    has = {"target": objective.target_decay is not None, "denoiser": objective.has_denoiser}
    metric = metric_network(config)
    init_loss_params = objective.init_loss_params

    def init_state() -> TrainState:
        key_params, key_training = split(seed_key(config.seed))
        params = init_params(key_params)
        teachers = {name: params for name, exists in has.items() if exists}
        if metric is not None:
            images = jnp.zeros((1, *config.image_shape), jnp.float32)
            teachers["metric"] = metric.init(key_params, images, images)["params"]
        loss_params = None if init_loss_params is None else init_loss_params(key_params)
        return create_state(params, tx, key_training, teachers, loss_params)

    return init_state


def ema_decay(config: Config) -> float:
    """Return the decay of the EMA parameters."""
    return config.training.ema_decay
