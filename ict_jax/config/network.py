"""The network of `config.model` and `config.precondition`, and its consistency function."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from ml_collections import ConfigDict

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
    """Build the raw network of `config.model`.

    Raises:
      ArgumentError: an unknown name or key, or an impossible size.
    """
    network, options = select_by_name("model", config.model, MODELS)
    try:
        return splat("model", options, network)
    except ArgumentError:
        raise
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error


def num_classes(config: Config) -> int:
    """Return the number of classes of the network, 0 for an unconditional one."""
    return build_model(config).num_classes  # pyright: ignore[reportAttributeAccessIssue]


def image_shape(config: Config) -> tuple[int, int, int]:
    """Return (h, w, c) of the images of a resolved config."""
    return tuple(config.image_shape)


def build_bind(config: Config, precondition: str | None = None) -> Bind:
    """Build `bind(params, labels, dropout_key)` -> the consistency function of these parameters.

    With the precondition "edm" it is a denoiser; "none" leaves the network raw. An unconditional
    network ignores labels.
    """
    model, classes = build_model(config), num_classes(config)
    section = config.precondition
    if precondition is not None:
        section = {"name": precondition, "sigma_data": section.sigma_data}
    wrap, options = select_by_name("precondition", section, PRECONDITIONS)
    precision = matmul_precision(config)

    def bind(params: Params, labels: Any, dropout_key: Any) -> ConsistencyFn:
        labels = labels if classes else None

        def network(x: Data, c_noise: Any) -> Any:
            rngs = {} if dropout_key is None else {"dropout": dropout_key}
            train = dropout_key is not None
            with precision():
                return model.apply({"params": params}, x, c_noise, labels, train=train, rngs=rngs)

        return splat("precondition", options, wrap, network)

    return bind


def matmul_precision(config: Config) -> Callable[[], Any]:
    """Return a maker of contexts with the matmul precision of the config, or the caller's."""
    precision = config.get("matmul_precision")  # checkpoints of the first versions lack it
    if precision is None:
        return contextlib.nullcontext
    return functools.partial(jax.default_matmul_precision, precision)


def build_init_params(config: Config) -> Callable[[Key[Array, ""]], Params]:
    """Build `init_params(key)` -> initial parameters of the network, float32."""
    model = build_model(config)

    def init_params(key: Key[Array, ""]) -> Params:
        x, one = (jnp.zeros(shape, jnp.float32) for shape in ((1, *config.image_shape), (1,)))
        return model.init(key, x, one, one.astype(jnp.int32))["params"]

    return init_params


def noise_settings(config: Config) -> dict[str, Any]:
    """Return the values of `config.discretization` and `config.precondition` in one dict."""
    return {**config.discretization, **config.precondition}


def with_network(
    config: Config,
    model: dict[str, Any],
    image_shape: tuple[int, int, int],
    levels: dict[str, float],
) -> Config:
    """Copy the config of a consistency model, replacing its section `model` and image shape.

    Replaces the noise levels too, by `levels`: sigma_data, sigma_min, sigma_max and rho.
    """
    config = config.copy_and_resolve_references()
    scalings = {key: levels[key] for key in ("sigma_data", "sigma_min")}
    with config.unlocked():
        config.model, config.image_shape = ConfigDict(model), image_shape
        config.precondition = ConfigDict({"name": "boundary", **scalings})
        config.discretization.update({k: v for k, v in levels.items() if k != "sigma_data"})
    return config
