"""From config sections to objects.

Each section is splatted into one callable, so its keys are that callable's keyword names
and its checks are that callable's checks. Beside this module only the start and the loop of a
run read configs: their top level, and which section goes to which of their own parts.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from ict_jax import models
from ict_jax.core.discretization import Discretization, make_discretization
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.objectives import Objective, ict_objective
from ict_jax.core.precondition import as_consistency_fn, as_denoiser
from ict_jax.core.sampling import heun_sample, sample
from ict_jax.core.schedules import karras_sigmas
from ict_jax.core.typing import ConsistencyFn, Data
from ict_jax.data import Batches, Dataset, load_data
from ict_jax.training.optimizers import make_optimizer
from ict_jax.training.parallel import gathering
from ict_jax.training.state import Params, TrainState, create_state
from ict_jax.training.step import Batch, Bind, Metrics, make_train_step

Config: TypeAlias = Any
"""An `ml_collections.ConfigDict`, or one of its sections; its attributes have no static types."""

MODELS: dict[str, type[nn.Module]] = {
    "dense": models.DenseNet,
    "ncsnpp": models.NCSNpp,
    "ddpmpp": models.DDPMpp,
    "adm": models.ADM,
}
PRECONDITIONS: dict[str, Callable[..., ConsistencyFn]] = {
    "boundary": as_consistency_fn,
    "edm": as_denoiser,
}
OBJECTIVES: dict[str, Callable[..., Objective]] = {"ict": ict_objective}

DIFFUSION_STEPS = 40
"""Levels at which diffusion models are sampled; CM has 40 on ImageNet 64x64, EDM 18 on CIFAR-10."""


def splat(name: str, section: Config, function: Callable, *args: Any) -> Any:
    """`function(*args, **section)`, with a sentence for keys that it does not take."""
    accepted = {
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    unknown = sorted(set(section) - accepted)
    require(
        not unknown,
        f"config.{name} has the unknown keys {unknown}; it takes "
        f"{sorted(accepted - {'parent', 'name'})}.",
    )
    return function(*args, **section)


def _named(name: str, section: Config, table: dict[str, Any]) -> tuple[Any, Config]:
    """The callable that `section.name` selects, and the other keys of the section."""
    require(
        section.get("name") in table,
        f"config.{name}.name={section.get('name')!r} is unknown; use one of {sorted(table)}.",
    )
    rest = ConfigDict({key: value for key, value in section.items() if key != "name"})
    return table[section.name], rest


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
    network, options = _named("model", config.model, MODELS)
    try:
        return splat("model", options, network)
    except ArgumentError:
        raise
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error


def num_classes(config: Config) -> int:
    """Classes of the network of `config.model`, 0 for an unconditional one."""
    return build_model(config).num_classes  # pyright: ignore[reportAttributeAccessIssue]


def build_discretization(config: Config) -> Discretization:
    """Noise levels and their law over the whole run."""
    return splat("discretization", config.discretization, make_discretization, config.total_steps)


def finest_grid(config: Config) -> list[float]:
    """The ascending noise levels of the last stage of the training, 1281 in iCT."""
    tables = build_discretization(config)
    return tables.sigmas[-1, : tables.num_scales[-1]].tolist()


def build_bind(config: Config) -> Bind:
    """How parameters become a consistency function, per `config.model` and `.precondition`.

    A denoiser, where that names "edm". Labels given to an unconditional network are dropped.
    """
    model, classes = build_model(config), num_classes(config)
    wrap, options = _named("precondition", config.precondition, PRECONDITIONS)
    precision = config.get("matmul_precision")  # checkpoints of the first versions lack it

    def bind(params: Params, labels: Any, dropout_key: Any) -> ConsistencyFn:
        labels = labels if classes else None

        def network(x: Data, c_noise: Any) -> Any:
            rngs = {} if dropout_key is None else {"dropout": dropout_key}
            train = dropout_key is not None
            given = precision is not None  # otherwise the caller's
            with jax.default_matmul_precision(precision) if given else contextlib.nullcontext():
                return model.apply({"params": params}, x, c_noise, labels, train=train, rngs=rngs)

        return splat("precondition", options, wrap, network)

    return bind


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
    require(
        not is_diffusion(config),
        "config.precondition.name='edm' is a diffusion model's, which config.objective.name="
        f"{config.objective.name!r} cannot train; use 'boundary'.",
    )
    objective, options = _named("objective", config.objective, OBJECTIVES)
    objective = splat("objective", options, objective, build_discretization(config))
    bind, tx = build_bind(config), build_optimizer(config)
    if mesh is not None:
        bind = gathering(bind, mesh)
    return splat("training", config.training, make_train_step, bind, objective, tx)


def build_init_params(config: Config) -> Callable[[Key[Array, ""]], Params]:
    """`init_params(key)` -> the network's initial parameters, float32."""
    model = build_model(config)

    def init_params(key: Key[Array, ""]) -> Params:
        x, one = jnp.zeros((1, *config.image_shape)), jnp.zeros(1)
        return model.init(key, x, one, one.astype(jnp.int32))["params"]

    return init_params


def build_init_state(config: Config) -> Callable[[], TrainState]:
    """`init_state()` -> the state at step 0, a function of `config.seed`."""
    init_params, tx = build_init_params(config), build_optimizer(config)

    def init_state() -> TrainState:
        key_params, key_training = jax.random.split(jax.random.key(config.seed))
        return create_state(init_params(key_params), tx, key_training)

    return init_state


def is_diffusion(config: Config) -> bool:
    """Whether the network is a denoiser, sampled from by many steps of an ODE solver."""
    return config.precondition.name == "edm"


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
        **config.sampling,
        **config.evaluation,
    }
