"""The network of the Fréchet Inception Distance: Inception of 2015-12-05, with TF1's resizing.

Source: torch-fidelity's feature_extractor_inceptionv3.py and pytorch-fid's inception.py, which
port Google's inception-2015-12-05.tgz and its weights. It is not the model zoos' Inception v3:
weights, classes (1,008), the padding of the pools and the last block's pool differ.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from ict_jax.checkpoints.interop.arrays import Named
from ict_jax.evaluation.extractors.base import Extracted, Extractor, to_checked_rgb
from ict_jax.evaluation.extractors.inception_layers import (
    STAGES,
    Chain,
    Conv,
    Pool,
    conv_shapes,
    inception_shapes,
)
from ict_jax.evaluation.extractors.layers import EXACT, NORM, conv2d, fold_batch_norm
from ict_jax.evaluation.extractors.weights import INCEPTION, load_inception

SIZE = 299

Weights = dict[str, dict[str, Any]]


def inception_extractor(path: str | os.PathLike | None = None, *, check: bool = True) -> Extractor:
    """Load the FID network: 2,048 features, 1,008 logits without bias (for the Inception Score).

    Args:
      path: file of its weights; default: as `load_inception`.
      check: whether it must be the published file.

    Raises:
      ArgumentError: the weights are missing, damaged, or of another network.
    """
    arrays, digest = load_inception(path, inception_shapes(), check=check)
    weights = jax.tree.map(jnp.asarray, fold_inception(arrays))
    return Extractor(INCEPTION, weights, extract, digest)


def fold_inception(arrays: Named) -> Weights:
    """Fold the arrays of `inception_shapes` into the weights that `inception_taps` takes."""
    weights: Weights = {}
    for name in conv_shapes():
        norm = {part: arrays[f"{name}.bn.{part}"] for part in NORM}
        weights[name] = fold_batch_norm(arrays[f"{name}.conv.weight"], norm)
    weights["fc"] = {"kernel": arrays["fc.weight"].T, "bias": arrays["fc.bias"]}
    return weights


def extract(weights: Weights, images: UInt8[Array, "b h w 3"]) -> Extracted:
    """Return the features and logits that scores need."""
    taps = inception_taps(weights, images)
    return Extracted(taps["2048"], taps["logits_unbiased"])


def inception_taps(
    weights: Weights, images: UInt8[Array, "b h w 3"]
) -> dict[str, Float[Array, "b _"]]:
    """Compute the features after each stage, averaged over pixels, and the logits.

    Returns:
      `64`, `192`, `768`, `2048`, `logits_unbiased` (without bias) and `logits`, float32.

    Raises:
      ArgumentError: the images have another shape or dtype.
    """
    images = to_checked_rgb(images)
    x = (resize_tf1(images.astype(jnp.float32), SIZE) - 128) / 128
    taps = {}
    for name, stage in STAGES.items():
        x = _chain(weights, stage, x)
        taps[name] = x.mean((1, 2))
    logits = jnp.dot(taps["2048"], weights["fc"]["kernel"], precision=EXACT)
    return taps | {"logits_unbiased": logits, "logits": logits + weights["fc"]["bias"][None]}


def _chain(weights: Weights, layers: Chain, x: Array) -> Array:
    for layer in layers:
        if isinstance(layer, Conv):
            x = conv2d(x, **weights[layer.name], stride=layer.stride, padding=layer.padding)
            x = jax.nn.relu(x)
        elif isinstance(layer, Pool):
            x = _pool(layer, x)
        else:
            x = jnp.concatenate([_chain(weights, chain, x) for chain in layer.chains], -1)
    return x


def _pool(layer: Pool, x: Array) -> Array:
    window, strides = (1, 3, 3, 1), (1, layer.stride, layer.stride, 1)
    if layer.kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, layer.padding)
    total = lax.reduce_window(x, 0.0, lax.add, window, strides, layer.padding)
    h, w = (np.convolve(np.ones(n), np.ones(3), "same") for n in x.shape[1:3])
    return total / np.outer(h, w).astype(np.float32)[None, :, :, None]


def resize_tf1(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b size size c"]:
    """Resize to a square bilinearly as TensorFlow 1 does, which FID depends on.

    Output pixel i samples the input at i * n / size, not at (i + 1/2) * n / size - 1/2 as in
    `jax.image.resize`, and there is no antialiasing.

    Source: tf.image.resize_bilinear(align_corners=False, half_pixel_centers=False).
    """
    top, bottom, dy = _positions(x.shape[1], size)
    left, right, dx = _positions(x.shape[2], size)
    dy, dx = dy[None, :, None, None], dx[None, None, :, None]
    upper, lower = x[:, top], x[:, bottom]
    upper = upper[:, :, left] + (upper[:, :, right] - upper[:, :, left]) * dx
    lower = lower[:, :, left] + (lower[:, :, right] - lower[:, :, left]) * dx
    return upper + (lower - upper) * dy


def _positions(n: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the input pixels before and after each output pixel, and the weight of the latter."""
    at = np.arange(size, dtype=np.float32) * np.float32(n / size)
    before = at.astype(np.int32)
    return before, np.minimum(before + 1, n - 1), at - before.astype(np.float32)
