"""The network that a config names, and whether what was read fits it."""

from typing import Any

import jax
import jax.numpy as jnp

from ict_jax.checkpoints import Loaded
from ict_jax.config.check import check_resolved, is_stated, resolve
from ict_jax.config.network import build_model
from ict_jax.config.sampling import build_draw
from ict_jax.config.training import Config
from ict_jax.core.errors import require
from ict_jax.core.sampling import seed_keys
from ict_jax.core.schedules import check_sigma_range
from ict_jax.models import DDPMpp


def check_loaded(loaded: Loaded, what: str) -> None:
    """Raises `ArgumentError` unless a checkpoint of these can be sampled from."""
    config = loaded.config
    levels = (config.discretization.sigma_min, config.discretization.sigma_max)
    check_sigma_range(*levels, config.discretization.rho)
    require(
        0 <= loaded.step < 2**32,
        f"{what} has the step {loaded.step}, expected one from 0 to 2^32 - 1; choose another.",
    )
    check_resolved(config)
    draw, sigmas = build_draw(config), jax.ShapeDtypeStruct((1,), jnp.float32)
    keys = jax.eval_shape(lambda: seed_keys(jnp.zeros(1, jnp.int32)))
    label = jax.ShapeDtypeStruct((1,), jnp.int32)
    jax.eval_shape(draw, loaded.params, keys, label, sigmas)


def network_of(config: Config, kind: type, name: str) -> tuple[Config, Any]:
    """The resolved config and its network, which must be of a kind.

    Raises:
      ArgumentError: it is another, or the config leaves something to the data.
    """
    require(
        is_stated(config),
        f"config.image_shape={config.image_shape} and config.precondition.sigma_data="
        f"{config.precondition.sigma_data} must be stated; set them to those of the network.",
    )
    config = resolve(config, None)
    model = build_model(config)
    require(
        isinstance(model, kind) and not isinstance(model, DDPMpp),
        f"config.model.name={config.model.name!r} is another network than {name!r}, which is "
        "expected; give its config, or export as safetensors.",
    )
    return config, model
