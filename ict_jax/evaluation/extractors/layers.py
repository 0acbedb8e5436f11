"""Layers shared by the pretrained networks, as plain functions of arrays."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ict_jax.checkpoints.interop.arrays import Named

EXACT = lax.Precision.HIGHEST
"""Float32 products on every device; otherwise TPUs and GPUs round the factors and scores change."""

NORM = ("weight", "bias", "running_mean", "running_var")
"""The arrays of a batch normalization, as PyTorch names them."""

EPS = 1e-3
"""Added to the variance by both networks' batch normalization."""


def fold_batch_norm(kernel: np.ndarray, norm: Named) -> Named:
    """Fold a batch normalization into the convolution without bias that precedes it.

    Args:
      kernel: [filters, channels, h, w], as in PyTorch.
      norm: the arrays of `NORM`, each [filters].

    Returns:
      `kernel` [h, w, channels, filters] and `bias` [filters], float32.
    """
    norm = {name: norm[name].astype(np.float64) for name in NORM}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + EPS)
    bias = norm["bias"] - norm["running_mean"] * scale
    folded = kernel * scale[:, None, None, None]
    return {
        "kernel": folded.transpose(2, 3, 1, 0).astype(np.float32),
        "bias": bias.astype(np.float32),
    }


def conv2d(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k l c f"],
    bias: Float[Array, " f"],
    stride: int = 1,
    padding: str = "SAME",
) -> Float[Array, "b H W f"]:
    """Convolve and add the bias, in the form that XLA computes fastest on CPUs."""
    rows, columns = kernel.shape[:2]
    if (rows, columns, stride) == (1, 1, 1):
        x = jnp.einsum("bhwc,cf->bhwf", x, kernel[0, 0], precision=EXACT)
        return x + bias[None, None, None]
    # VALID takes twice as long as SAME followed by a crop.
    crop = stride == 1 and padding == "VALID"
    x = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME" if crop else padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=EXACT,
    )
    if crop:
        (_, h, w, _) = x.shape
        x = x[:, (rows - 1) // 2 : h - rows // 2, (columns - 1) // 2 : w - columns // 2]
    return x + bias[None, None, None]


def depthwise_conv2d(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k 1 c"],
    bias: Float[Array, " c"],
    stride: int,
) -> Float[Array, "b H W c"]:
    """Convolve each channel separately with `SAME` padding and add the bias.

    A sum of shifted products: on CPUs six times as fast as XLA's grouped convolution.
    """
    k, (h, w) = kernel.shape[0], x.shape[1:3]
    pads = lax.padtype_to_pads((h, w), (k, k), (stride, stride), "SAME")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    h, w = -(-h // stride), -(-w // stride)
    total = bias[None, None, None]
    for i, j in np.ndindex(k, k):
        rows = slice(i, i + (h - 1) * stride + 1, stride)
        columns = slice(j, j + (w - 1) * stride + 1, stride)
        total = total + x[:, rows, columns] * kernel[i, j][None, None]
    return total
