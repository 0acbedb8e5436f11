"""The interface of the pretrained networks that scores use."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, UInt8

from ict_jax.core.errors import require

CLASSIFIER = "classifier"
"""The extractor trained on the data set itself; the others are pretrained."""


class Extracted(NamedTuple):
    """Outputs of a network for a batch; logits, for the Inception Score, are optional."""

    features: Float[Array, "b d"]
    logits: Float[Array, "b classes"] | None


class Extractor(NamedTuple):
    """A pure function of weights and images, and its weights.

    Attributes:
      name: name under which its scores are reported.
      weights: a tree of arrays.
      apply: traceable `apply(weights, images)` for uint8 images [b, h, w, c] of any size.
      digest: SHA-256 of the weights, to tell statistics of different networks apart.
      scale: divisor of the features, applied in float64 before they are compared.
    """

    name: str
    weights: Any
    apply: Callable[[Any, UInt8[Array, "b h w c"]], Extracted]
    digest: str
    scale: float = 1.0


def to_rgb(images: Any) -> Any:
    """Repeat the channel of images [..., h, w, 1], of NumPy or JAX; return [..., h, w, 3] as is.

    Raises:
      ArgumentError: there are neither one nor three channels.
    """
    channels = images.shape[-1] if images.ndim else None
    require(
        channels in (1, 3),
        f"images have shape {images.shape}, expected one channel or three in the last axis; "
        "convert them to grey or RGB.",
    )
    return images if channels == 3 else images.repeat(3, axis=-1)


def to_checked_rgb(images: Any) -> Any:
    """Convert uint8 images [b, h, w, 1 or 3] to RGB.

    Raises:
      ArgumentError: the images have another shape or dtype.
    """
    images = to_rgb(images)
    require(
        images.ndim == 4 and images.dtype == np.uint8,
        f"images have shape {images.shape} and type {images.dtype}, expected uint8 [b, h, w, 3]; "
        "use to_uint8 and to_rgb.",
    )
    return images
