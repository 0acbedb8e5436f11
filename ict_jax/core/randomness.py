"""Keys and draws that do not depend on JAX's process-wide settings.

Keys are Threefry, draws are float32, and Threefry is partitionable, so that its values do not
depend on the sharding. A key created by the caller keeps its own implementation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, UInt32

from ict_jax.core.typing import PRNGKey


def seed_key(seed: int | Integer[Array, ""]) -> PRNGKey:
    """Return the random key of a seed, a whole number from 0 to 2^32 - 1."""
    return jax.random.key(seed, impl="threefry2x32")


def split(key: PRNGKey, num: int = 2) -> Key[Array, " num"]:
    """Split a key into `num` keys."""
    with jax.threefry_partitionable(True):
        return jax.random.split(key, num)


def normal(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draw standard normal values, float32."""
    with jax.threefry_partitionable(True):
        return jax.random.normal(key, shape, jnp.float32)


def uniform(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draw values uniform in [0, 1), float32."""
    with jax.threefry_partitionable(True):
        return jax.random.uniform(key, shape, jnp.float32)


def bits(key: PRNGKey, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Draw random bits, 32 per value."""
    with jax.threefry_partitionable(True):
        return jax.random.bits(key, shape, jnp.uint32)


def permutation(key: PRNGKey, size: int) -> Integer[Array, " size"]:
    """Return the numbers from 0 to size - 1 in random order, int32."""
    with jax.threefry_partitionable(True):
        return jax.random.permutation(key, jnp.arange(size, dtype=jnp.int32))
