"""Two-dimensional data for the examples of reuse, and what training on it should show."""

import jax
import jax.numpy as jnp

from ict_jax import sample, seed_keys

STEPS = 1500
RADIUS = 0.7


def points(key, count=256):
    """A ring."""
    angle = jax.random.uniform(key, (count,), maxval=2 * jnp.pi)
    return RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def ring_error(f):
    """Mean distance of one-step samples from the ring; 0.5 for an untrained network."""
    x = sample(f, seed_keys(range(1000)), (2,), clip=False)
    return float(jnp.abs(jnp.linalg.norm(x, axis=1) - RADIUS).mean())
