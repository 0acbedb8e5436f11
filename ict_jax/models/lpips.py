"""LPIPS, a learned distance between images (Zhang et al., 2018), on VGG16's features."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Images = Float[Array, "b h w 3"]

VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and channels per resolution (Simonyan & Zisserman, 2015, configuration D)."""

MEAN = (-0.03, -0.088, -0.188)
STD = (0.458, 0.448, 0.45)
"""Statistics of ImageNet's channels in [-1, 1]."""


def convolution_names() -> list[str]:
    """Return the names of the 13 convolutions, in the order of computation."""
    counts = [count for count, _ in VGG16]
    return [f"conv{i}_{j + 1}" for i, count in enumerate(counts, 1) for j in range(count)]


class VGG16Features(nn.Module):
    """Features of VGG16 at each of five resolutions, of unit length at each pixel.

    Attributes:
      pooling: pooling between the resolutions.
    """

    pooling: Literal["max", "average"]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        pool = nn.max_pool if self.pooling == "max" else nn.avg_pool
        names, features = iter(convolution_names()), []
        for count, channels in VGG16:
            if features:
                x = pool(x, (2, 2), (2, 2))
            for _ in range(count):
                x = nn.relu(nn.Conv(channels, (3, 3), padding=1, name=next(names))(x))
            features.append(_normalize(x))
        return features


class LPIPS(nn.Module):
    """Distance between images in [-1, 1], one per pair: LPIPS of version 0.1 on VGG16.

    The weighted squared difference of unit-length features, summed over channels, averaged
    over pixels, and summed over five resolutions.

    Attributes:
      size: side in pixels to which smaller images are enlarged, bilinearly, as in the CM authors'
        code.
      pooling: "max" as in VGG16, LPIPS and CM's code for CIFAR-10; "average" in CM's code for
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
        features = VGG16Features(self.pooling, name="vgg16")
        seen = (features(self._preprocess(images)) for images in (prediction, target))
        total = jnp.zeros(len(prediction))
        for resolution, (a, b) in enumerate(zip(*seen, strict=True), 1):
            channels = a.shape[-1]
            mean = nn.initializers.constant(1 / channels)
            weights = self.param(f"linear{resolution}", mean, (channels,))
            # sum_l mean_hw sum_c w_lc (a_lhwc - b_lhwc)^2 (Zhang et al., 2018, Eq. 1)
            total += jnp.mean(jnp.square(a - b) @ weights, axis=(1, 2))
        return total

    def _preprocess(self, images: Images) -> Images:
        """Enlarge and standardise images as in the training of VGG16."""
        b, h, w, c = images.shape
        if min(h, w) < self.size:
            images = jax.image.resize(images, (b, self.size, self.size, c), "bilinear")
        mean, std = (np.asarray(a, images.dtype)[None, None, None] for a in (MEAN, STD))
        return (images - mean) / std


def _normalize(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Divide features by their length at each pixel; zeros stay zero, with zero gradient."""
    # The inner `where` keeps the infinite slope of sqrt at 0 out of the gradient.
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return x / (length + 1e-10)
