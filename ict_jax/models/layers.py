"""Layers shared by several networks."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class FourierEmbedding(nn.Module):
    """Gaussian Fourier features of the noise level: [sin(2 pi W c), cos(2 pi W c)].

    W ~ N(0, scale^2) is stored among the parameters and not trained.

    Attributes:
      size: number of features, even.
      scale: standard deviation of W; iCT has 0.02, CM has 16.

    Source: CM authors' code; scale: iCT, Section 3.1.
    """

    size: int
    scale: float = 0.02

    @nn.compact
    def __call__(self, c_noise: Float[Array, " b"]) -> Float[Array, "b size"]:
        init = nn.initializers.normal(self.scale, jnp.float32)  # whatever the process-wide default
        frequencies = self.param("W", init, (self.size // 2,))
        angles = 2 * jnp.pi * jnp.outer(c_noise, jax.lax.stop_gradient(frequencies))
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def positional_embedding(
    c_noise: Float[Array, " b"], size: int, *, max_period: float = 10_000.0
) -> Float[Array, "b size"]:
    """Compute sinusoidal features [cos(w_j c), sin(w_j c)], w_j = max_period^(-j / (size / 2)).

    Source: Vaswani et al., 2017, in the order and frequencies of the ADM authors' code.
    """
    order = jnp.arange(size // 2, dtype=jnp.float32)
    frequencies = jnp.exp(-math.log(max_period) * order / (size // 2))
    angles = jnp.outer(c_noise, frequencies)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def blur(
    x: Float[Array, "b h w c"], kernel: tuple[float, ...], pads: tuple[int, int], stride: int = 1
) -> Float[Array, "b h2 w2 c"]:
    """Filter with the separable kernel, normalised to sum 1, after padding with zeros."""
    for axis in (1, 2):
        padded = _pad(x, axis, *pads)
        # A valid convolution along one axis, as a sum of shifted images.
        end = padded.shape[axis] - len(kernel) + 1
        shifted = (
            jax.lax.slice_in_dim(padded, i, i + end, stride, axis) * (tap / sum(kernel))
            for i, tap in enumerate(kernel)
        )
        x = functools.reduce(jnp.add, shifted)
    return x


def downsample(
    x: Float[Array, "b h w c"], kernel: tuple[float, ...]
) -> Float[Array, "b h/2 w/2 c"]:
    """Filter with the separable kernel, normalised to sum 1, and keep every second pixel.

    (1, 1) is average pooling, (1, 3, 3, 1) the FIR filter of StyleGAN2. Padding is with zeros.
    """
    padding = len(kernel) - 2
    return blur(x, kernel, ((padding + 1) // 2, padding // 2), stride=2)


def upsample(x: Float[Array, "b h w c"], kernel: tuple[float, ...]) -> Float[Array, "b 2*h 2*w c"]:
    """Insert zeros between the pixels and filter with the separable kernel, normalised to sum 2.

    (1, 1) repeats each pixel. Padding is with zeros.
    """
    return _double(_double(x, kernel, 1), kernel, 2)


def _double(x: Array, kernel: tuple[float, ...], axis: int) -> Array:
    length, size = len(kernel), x.shape[axis]
    before = (length - 1) // 2 + 1  # zeros before the first pixel of the widened image
    x = _pad(x, axis, length, length)
    phases = []
    # Polyphase form: even and odd output pixels each see every second tap, so that the inserted
    # zeros are never multiplied.
    for phase in (0, 1):
        taps = [i for i in range(length) if (phase + i - before) % 2 == 0]
        starts = [length + (phase + i - before) // 2 for i in taps]
        shifted = (
            jax.lax.slice_in_dim(x, start, start + size, 1, axis) * (2 * kernel[i] / sum(kernel))
            for i, start in zip(taps, starts, strict=True)
        )
        phases.append(functools.reduce(jnp.add, shifted))
    doubled = jnp.stack(phases, axis + 1)
    return doubled.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def _pad(x: Float[Array, "b h w c"], axis: int, before: int, after: int) -> Array:
    return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(4)])
