"""LPIPS, a learned distance between images (Zhang et al., 2018), on VGG16's features."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Images = Float[Array, "b h w 3"]

VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and their channels at each of five resolutions. Source: Simonyan & Zisserman, 2015,
configuration D."""

MEAN = (-0.03, -0.088, -0.188)
STD = (0.458, 0.448, 0.45)
"""Of ImageNet's channels in [-1, 1]."""


def convolution_names() -> list[str]:
    """Names of the 13 convolutions, in the order in which they are applied."""
    counts = [count for count, _ in VGG16]
    return [f"conv{i}_{j + 1}" for i, count in enumerate(counts, 1) for j in range(count)]


class Features(nn.Module):
    """What VGG16's convolutions give at each of five resolutions, of unit length in each place.

    Attributes:
      pooling: between the resolutions.
    """

    pooling: Literal["max", "average"]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        pool = nn.max_pool if self.pooling == "max" else nn.avg_pool
        names, found = iter(convolution_names()), []
        for count, channels in VGG16:
            if found:
                x = pool(x, (2, 2), (2, 2))
            for _ in range(count):
                x = nn.relu(nn.Conv(channels, (3, 3), padding=1, name=next(names))(x))
            found.append(_of_unit_length(x))
        return found


class LPIPS(nn.Module):
    """The distance between images in [-1, 1], one per pair: LPIPS of version 0.1 on VGG16.

    A weighted square of the difference of unit-length features, summed over channels, averaged
    over places, and summed over five resolutions.

    Attributes:
      size: side in pixels to which smaller images are enlarged, bilinearly. Source: the authors'
        code of CM.
      pooling: "max", as VGG16 has it, LPIPS and CM's code for CIFAR-10; "average" in CM's code for
        ImageNet.
    """

    size: int = 224
    pooling: Literal["max", "average"] = "max"

    def __post_init__(self):
        if self.pooling not in ("max", "average"):
            raise ValueError(f"pooling={self.pooling!r} is unknown; use 'max' or 'average'.")
        if not isinstance(self.size, int) or self.size < 16:
            raise ValueError(
                f"size={self.size} must be a whole number of at least 16: it is halved four times."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, prediction: Images, target: Images) -> Float[Array, " b"]:
        features = Features(self.pooling, name="vgg16")
        pairs = zip(features(self._seen(prediction)), features(self._seen(target)), strict=True)
        total = jnp.zeros(len(prediction))
        for resolution, (a, b) in enumerate(pairs, 1):
            channels = a.shape[-1]
            mean = nn.initializers.constant(1 / channels)
            weights = self.param(f"linear{resolution}", mean, (channels,))
            total += jnp.mean(jnp.square(a - b) @ weights, axis=(1, 2))
        return total

    def _seen(self, images: Images) -> Images:
        """The images as VGG16 was trained on them."""
        b, h, w, c = images.shape
        if min(h, w) < self.size:
            images = jax.image.resize(images, (b, self.size, self.size, c), "bilinear")
        mean, std = (np.asarray(a, images.dtype)[None, None, None] for a in (MEAN, STD))
        return (images - mean) / std


def _of_unit_length(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Features divided by their length in each place; zeros stay, and have no gradient."""
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return x / (length + 1e-10)
