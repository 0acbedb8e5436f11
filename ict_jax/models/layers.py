"""Layers that several networks share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class FourierEmbedding(nn.Module):
    """Gaussian Fourier features of the noise level: [sin(2 pi W c), cos(2 pi W c)].

    W ~ N(0, scale^2) is kept among the parameters and not trained.

    Attributes:
      size: number of features, even.
      scale: standard deviation of W; iCT has 0.02, CM has 16.

    Source: CM authors' code; scale: iCT, Section 3.1.
    """

    size: int
    scale: float = 0.02

    @nn.compact
    def __call__(self, c_noise: Float[Array, " b"]) -> Float[Array, "b size"]:
        frequencies = self.param("W", nn.initializers.normal(self.scale), (self.size // 2,))
        angles = 2 * jnp.pi * jnp.outer(c_noise, jax.lax.stop_gradient(frequencies))
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
