"""Fingerprints that tell whether a restored state is the one that was saved."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32


def fingerprint(tree: object) -> UInt32[Array, " 2"]:
    """Compute two sums modulo 2^32 over all bits: plain, and weighted by position.

    Integers have no rounding, so the order of the sum, and with it the sharding, does not matter.
    A changed bit changes the first sum, a permutation the second. Typed keys count with their data.
    """
    total = jnp.zeros(2, jnp.uint32)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        bits = _bits(leaf)
        position = jnp.zeros(bits.shape, jnp.uint32)
        for axis, length in enumerate(bits.shape):
            position = position * jnp.uint32(length) + jax.lax.broadcasted_iota(
                jnp.uint32, bits.shape, axis
            )
        # Odd weights are invertible modulo 2^32, so no bit is lost; another factor for each leaf.
        weights = (position * jnp.uint32(2) + jnp.uint32(1)) * jnp.uint32(2 * index + 1)
        sums = jnp.stack([bits.sum(dtype=jnp.uint32), (bits * weights).sum(dtype=jnp.uint32)])
        total = total + sums
    return total


def _bits(leaf: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def plain_sum(tree: object) -> int:
    """Compute the first sum of `fingerprint` in NumPy, whatever JAX's settings."""
    total = 0
    for leaf in map(np.asarray, jax.tree.leaves(tree)):
        bits = leaf if leaf.dtype == np.bool_ else leaf.view(f"uint{8 * leaf.dtype.itemsize}")
        total += int(bits.astype(np.uint32).sum(dtype=np.uint32))
    return total % 2**32
