"""What scores need of a pretrained network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, UInt8

from ict_jax.core.errors import require

CLASSIFIER = "classifier"
"""The extractor that is trained on the data set itself; the others are pretrained."""


class Extracted(NamedTuple):
    """What a network says of a batch.

    Attributes:
      features: whose means and covariances are compared.
      logits: of the classes, for the Inception Score; None where there are none.
    """

    features: Float[Array, "b d"]
    logits: Float[Array, "b classes"] | None


class Extractor(NamedTuple):
    """A pure function of weights and images, to be compiled together with a sampler.

    Attributes:
      name: under which its scores are reported.
      weights: a tree of arrays.
      apply: `apply(weights, images)`, of images uint8 [b, h, w, c] of any size; traceable.
      digest: SHA-256 of the weights, to tell apart statistics of different networks.
      scale: features are divided by it, in float64, before they are compared.
    """

    name: str
    weights: Any
    apply: Callable[[Any, UInt8[Array, "b h w c"]], Extracted]
    digest: str
    scale: float = 1.0


def to_rgb(images: Any) -> Any:
    """Images [..., h, w, 1] with their channel three times; [..., h, w, 3] as they are.

    Args:
      images: an array of NumPy or JAX, of any type; the result is of the same kind.

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


def check_images(images: Any) -> None:
    """Raises `ArgumentError` unless images are uint8 [b, h, w, 3]."""
    require(
        images.ndim == 4 and images.shape[-1] == 3 and images.dtype == np.uint8,
        f"images have shape {images.shape} and type {images.dtype}, expected uint8 [b, h, w, 3]; "
        "use to_uint8 and to_rgb.",
    )
