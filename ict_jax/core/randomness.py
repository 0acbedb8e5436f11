"""Keys from seeds, and draws: the same numbers whatever the process-wide settings of JAX are.

The implementation of keys is Threefry, draws are float32, and Threefry is the partitionable one,
whose numbers do not depend on how an array lies on the devices. A key that a caller made keeps
its own implementation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, UInt32

from ict_jax.core.typing import PRNGKey


def seed_key(seed: int | Integer[Array, ""]) -> PRNGKey:
    """The random key of a seed, a whole number from 0 to 2^32 - 1."""
    return jax.random.key(seed, impl="threefry2x32")


def split(key: PRNGKey, num: int = 2) -> Key[Array, " num"]:
    """As many keys of one."""
    with jax.threefry_partitionable(True):
        return jax.random.split(key, num)


def normal(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers, float32."""
    with jax.threefry_partitionable(True):
        return jax.random.normal(key, shape, jnp.float32)


def uniform(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Numbers from 0 to 1, float32."""
    with jax.threefry_partitionable(True):
        return jax.random.uniform(key, shape, jnp.float32)


def bits(key: PRNGKey, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random bits."""
    with jax.threefry_partitionable(True):
        return jax.random.bits(key, shape, jnp.uint32)


def permutation(key: PRNGKey, size: int) -> Integer[Array, " size"]:
    """The numbers from 0 to size - 1 in random order, int32."""
    with jax.threefry_partitionable(True):
        return jax.random.permutation(key, jnp.arange(size, dtype=jnp.int32))
