"""The network of the Fréchet Inception Distance: Inception of 2015-12-05, with TF1's resizing.

Source of the facts: torch-fidelity's feature_extractor_inceptionv3.py and pytorch-fid's
inception.py, which describe Google's inception-2015-12-05.tgz and carry its weights over. It is
not Inception v3 of the model zoos: weights, classes (1,008), the pools' padding and the last
block's pool differ.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from ict_jax.checkpoints.interop.torch_file import Named
from ict_jax.evaluation.extractors.base import Extracted, Extractor, check_images, to_rgb
from ict_jax.evaluation.extractors.inception_layers import (
    STAGES,
    Chain,
    Conv,
    Pool,
    convolutions,
    inception_shapes,
)
from ict_jax.evaluation.extractors.layers import EXACT, NORM, convolve, fold_batch_norm
from ict_jax.evaluation.extractors.weights import INCEPTION, load_inception

SIZE = 299

Weights = dict[str, dict[str, Any]]


def inception_extractor(path: str | os.PathLike | None = None, *, check: bool = True) -> Extractor:
    """The FID network: 2,048 features, 1,008 logits without their bias (for the Inception Score).

    Args:
      path: the file of its weights; see `load_inception` for the default.
      check: whether it must be the published file.

    Raises:
      ArgumentError: the weights are missing, damaged, or of another network.
    """
    arrays, digest = load_inception(path, inception_shapes(), check=check)
    weights = jax.tree.map(jnp.asarray, fold_inception(arrays))
    return Extractor(INCEPTION, weights, extract, digest)


def fold_inception(arrays: Named) -> Weights:
    """The tree that `inception_taps` takes, from the arrays of `inception_shapes`.

    Every convolution takes up its normalization.
    """
    weights: Weights = {}
    for name in convolutions():
        norm = {part: arrays[f"{name}.bn.{part}"] for part in NORM}
        weights[name] = fold_batch_norm(arrays[f"{name}.conv.weight"], norm)
    weights["fc"] = {"kernel": arrays["fc.weight"].T, "bias": arrays["fc.bias"]}
    return weights


def extract(weights: Weights, images: UInt8[Array, "b h w 3"]) -> Extracted:
    """What the scores need of `inception_taps`."""
    taps = inception_taps(weights, images)
    return Extracted(taps["2048"], taps["logits_unbiased"])


def inception_taps(
    weights: Weights, images: UInt8[Array, "b h w 3"]
) -> dict[str, Float[Array, "b _"]]:
    """The features after each stage, averaged over pixels, and the logits.

    Args:
      weights: from `fold_inception`.
      images: uint8 [b, h, w, 3] of any size.

    Returns:
      `64`, `192`, `768`, `2048`, `logits_unbiased` (without bias) and `logits`, float32.

    Raises:
      ArgumentError: images are of another shape or type.
    """
    images = to_rgb(images)
    check_images(images)
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
            x = convolve(x, **weights[layer.name], stride=layer.stride, padding=layer.padding)
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
    """Bilinear resizing to a square as TensorFlow 1 has it, which FID scores depend on.

    Pixel i of the result lies at i * n / size of the n, not at (i + 1/2) * n / size - 1/2 as in
    `jax.image.resize`, and nothing is smoothed before images are made smaller.

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
    """Of each pixel of the result: the pixel before it, the one after it, the way between them."""
    at = np.arange(size, dtype=np.float32) * np.float32(n / size)
    before = at.astype(np.int32)
    return before, np.minimum(before + 1, n - 1), at - before.astype(np.float32)
