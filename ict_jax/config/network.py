"""From `config.model` and `config.precondition` to the network and its consistency function."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ict_jax import models
from ict_jax.config.sections import Config, select_by_name, splat
from ict_jax.core.errors import ArgumentError
from ict_jax.core.precondition import as_consistency_fn, as_denoiser, as_trigflow
from ict_jax.core.typing import ConsistencyFn, Data
from ict_jax.training.state import Params
from ict_jax.training.step import Bind

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


def build_model(config: Config) -> nn.Module:
    """The raw network of `config.model`.

    Raises:
      ArgumentError: an unknown name or key, or a size that cannot be.
    """
    network, options = select_by_name("model", config.model, MODELS)
    try:
        return splat("model", options, network)
    except ArgumentError:
        raise
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error


def num_classes(config: Config) -> int:
    """Classes of the network of `config.model`, 0 for an unconditional one."""
    return build_model(config).num_classes  # pyright: ignore[reportAttributeAccessIssue]


def image_shape(config: Config) -> tuple[int, int, int]:
    """(h, w, c) of the images; the config is resolved."""
    return tuple(config.image_shape)


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
    wrap, options = select_by_name("precondition", section, PRECONDITIONS)
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


def build_init_params(config: Config) -> Callable[[Key[Array, ""]], Params]:
    """`init_params(key)` -> the network's initial parameters, float32."""
    model = build_model(config)

    def init_params(key: Key[Array, ""]) -> Params:
        x, one = (jnp.zeros(shape, jnp.float32) for shape in ((1, *config.image_shape), (1,)))
        return model.init(key, x, one, one.astype(jnp.int32))["params"]

    return init_params
