"""Check that imported parameters can be sampled from."""

import jax
import jax.numpy as jnp

from ict_jax.checkpoints import Loaded
from ict_jax.config.check import check_resolved
from ict_jax.config.sampling import build_draw
from ict_jax.core.errors import require
from ict_jax.core.sampling import seed_keys


def check_loaded(loaded: Loaded, what: str) -> None:
    """Raise `ArgumentError` unless a checkpoint of these can be sampled from."""
    require(
        0 <= loaded.step < 2**32,
        f"{what} has the step {loaded.step}, expected one from 0 to 2^32 - 1; choose another.",
    )
    check_resolved(loaded.config)
    draw, sigmas = build_draw(loaded.config), jax.ShapeDtypeStruct((1,), jnp.float32)
    keys = jax.eval_shape(lambda: seed_keys(jnp.zeros(1, jnp.int32)))
    label = jax.ShapeDtypeStruct((1,), jnp.int32)
    jax.eval_shape(draw, loaded.params, keys, label, sigmas)
