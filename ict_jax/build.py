"""From config sections to objects.

Each section is splatted into one callable, so its keys are that callable's keyword names
and its checks are that callable's checks. Beside this module only the start and the loop of a
run read configs: their top level, and which section goes to which of their own parts.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from ict_jax import models
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.objectives.base import Loss
from ict_jax.core.precondition import as_consistency_fn, as_denoiser, as_trigflow
from ict_jax.core.randomness import seed_key, split
from ict_jax.core.sampling import heun_sample, sample
from ict_jax.core.schedules import karras_sigmas
from ict_jax.core.typing import ConsistencyFn, Data, PerExample
from ict_jax.data import Batches, Dataset, load_data
from ict_jax.objectives import (
    Config,
    build_objective,
    check_precondition,
    denoiser_precondition,
    metric_network,
    named,
    splat,
    teacher_names,
)
from ict_jax.training.optimizers import make_optimizer
from ict_jax.training.parallel import gathering
from ict_jax.training.state import Params, TrainState, create_state
from ict_jax.training.step import Batch, Bind, Metrics, make_train_step

MODELS: dict[str, type[nn.Module]] = {
    "dense": models.DenseNet,
    "ncsnpp": models.NCSNpp,
    "ddpmpp": models.DDPMpp,
    "adm": models.ADM,
}
PRECONDITIONS: dict[str, Callable[..., ConsistencyFn]] = {
    "boundary": as_consistency_fn,
    "zero_boundary": as_denoiser,
    "trigflow": as_trigflow,
    "edm": as_denoiser,
    "none": lambda network, *, sigma_data: network,
}
DIFFUSION_STEPS = 40
"""Levels at which diffusion models are sampled; CM has 40 on ImageNet 64x64, EDM 18 on CIFAR-10."""


def build_dataset(config: Config) -> Dataset:
    """The data set of `config.data`."""
    return splat("data", config.data, load_data)


def build_batches(config: Config, dataset: Dataset) -> Batches:
    """The training batches in the order of `config.seed`."""
    return splat(
        "pipeline", config.pipeline, Batches, dataset.train, config.batch_size, config.seed
    )


def build_model(config: Config) -> nn.Module:
    """The raw network of `config.model`.

    Raises:
      ArgumentError: an unknown name or key, or a size that cannot be.
    """
    network, options = named("model", config.model, MODELS)
    try:
        return splat("model", options, network)
    except ArgumentError:
        raise
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error


def num_classes(config: Config) -> int:
    """Classes of the network of `config.model`, 0 for an unconditional one."""
    return build_model(config).num_classes  # pyright: ignore[reportAttributeAccessIssue]


def build_bind(config: Config, precondition: str | None = None) -> Bind:
    """How parameters become a consistency function, per `config.model` and `.precondition`.

    A diffusion model's denoiser, where that names "edm". Labels given to an unconditional network
    are dropped.

    Args:
      config: resolved.
      precondition: replaces the name in `config.precondition`; "none" leaves the network raw.
    """
    model, classes = build_model(config), num_classes(config)
    section = config.precondition
    if precondition is not None:
        section = {"name": precondition, "sigma_data": section.sigma_data}
    wrap, options = named("precondition", section, PRECONDITIONS)
    precision = _precision(config)

    def bind(params: Params, labels: Any, dropout_key: Any) -> ConsistencyFn:
        labels = labels if classes else None

        def network(x: Data, c_noise: Any) -> Any:
            rngs = {} if dropout_key is None else {"dropout": dropout_key}
            train = dropout_key is not None
            with precision():
                return model.apply({"params": params}, x, c_noise, labels, train=train, rngs=rngs)

        return splat("precondition", options, wrap, network)

    return bind


def _precision(config: Config) -> Callable[[], Any]:
    """Makes contexts with the config's precision of products, or with the caller's."""
    precision = config.get("matmul_precision")  # checkpoints of the first versions lack it
    if precision is None:
        return contextlib.nullcontext
    return functools.partial(jax.default_matmul_precision, precision)


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


def build_init_params(config: Config) -> Callable[[Key[Array, ""]], Params]:
    """`init_params(key)` -> the network's initial parameters, float32."""
    model = build_model(config)

    def init_params(key: Key[Array, ""]) -> Params:
        x, one = (jnp.zeros(shape, jnp.float32) for shape in ((1, *config.image_shape), (1,)))
        return model.init(key, x, one, one.astype(jnp.int32))["params"]

    return init_params


def build_init_state(config: Config) -> Callable[[], TrainState]:
    """`init_state()` -> the state at step 0, a function of `config.seed`."""
    init_params, tx = build_init_params(config), build_optimizer(config)
    objective = build_objective(config)
    names, init_own, metric = teacher_names(objective), objective.init_own, metric_network(config)

    def init_state() -> TrainState:
        key_params, key_training = split(seed_key(config.seed))
        params = init_params(key_params)
        teachers = dict.fromkeys(names, params)
        if metric is not None:
            images = jnp.zeros((1, *config.image_shape), jnp.float32)
            teachers["metric"] = metric.init(key_params, images, images)["params"]
        own = None if init_own is None else init_own(key_params)
        return create_state(params, tx, key_training, teachers, own)

    return init_state


def is_diffusion(config: Config) -> bool:
    """Whether the network is a denoiser, sampled from by many steps of an ODE solver."""
    return "edm" in (config.precondition.name, config.objective.name)


def build_draw(config: Config) -> Callable[[Params, Any, Any, Any], Data]:
    """`draw(params, keys, labels, sigmas)` -> images in [-1, 1], one per key."""
    bind, shape = build_bind(config), tuple(config.image_shape)

    def draw(params: Params, keys: Any, labels: Any, sigmas: Any) -> Data:
        f = bind(params, labels, None)
        if is_diffusion(config):
            return heun_sample(f, keys, shape, sigmas)
        return sample(f, keys, shape, sigmas, sigma_min=config.discretization.sigma_min)

    return draw


def grid(config: Config, steps: int | None) -> tuple[float, ...]:
    """So many descending noise levels to sample at, from the Karras grid.

    A consistency model is not called at the last level, sigma_min, where it is the identity.

    Args:
      config: resolved.
      steps: default: 1 for a consistency model, `DIFFUSION_STEPS` for a diffusion model.

    Raises:
      ArgumentError: steps < 1.
    """
    diffusion, disc = is_diffusion(config), config.discretization
    steps = steps if steps is not None else DIFFUSION_STEPS if diffusion else 1
    require(steps >= 1, f"--steps={steps} must be at least 1.")
    if diffusion and steps == 1:
        return (disc.sigma_max,)
    sigmas = karras_sigmas(
        steps if diffusion else steps + 1,
        sigma_min=disc.sigma_min,
        sigma_max=disc.sigma_max,
        rho=disc.rho,
    )
    return tuple(float(sigma) for sigma in sigmas[::-1][:steps])


def sampler_arguments(config: Config) -> dict[str, Any]:
    """What drawing needs to know of a config, by the names that `Sampler` takes."""
    return {
        "sigma_min": config.discretization.sigma_min,
        "sigma_max": config.discretization.sigma_max,
        "num_classes": num_classes(config),
    }


def sampling_arguments(config: Config) -> dict[str, Any]:
    """What scoring needs to know of a config, by the names that `Evaluator` takes."""
    return {
        "sigma_min": config.discretization.sigma_min,
        "sigma_max": config.discretization.sigma_max,
        "diffusion_sigmas": grid(config, None) if is_diffusion(config) else None,
        **config.sampling,
        **config.evaluation,
    }
