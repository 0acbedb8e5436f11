"""The weights of LPIPS, from the two files in which others offer them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ict_jax.checkpoints.interop.arrays import check_arrays, file_digest
from ict_jax.checkpoints.interop.torch_file import Named, read_torch_file
from ict_jax.core.errors import require
from ict_jax.models.lpips import VGG16, convolution_names
from ict_jax.runtime.console import say

VGG_FILE = "vgg16-397923af.pth of https://download.pytorch.org/models (528 MiB)"
LINEAR_FILE = "weights/v0.1/vgg.pth of PyPI's package lpips (7 kB)"

VGG_SHA256 = "397923af"
LINEAR_SHA256 = "a78928a0"
"""First digits of the published files' SHA-256."""

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Of the convolutions among the layers `features` of torchvision's VGG16."""


def check_lpips_files(vgg_weights: str | None, linear_weights: str | None) -> None:
    """Raises `ArgumentError` unless both files are there."""
    for name, path, published in [
        ("vgg_weights", vgg_weights, VGG_FILE),
        ("linear_weights", linear_weights, LINEAR_FILE),
    ]:
        there = path is not None and Path(path).expanduser().is_file()
        found = " is not given" if path is None else f"={path} is no file"
        require(there, f"config.lpips.{name}{found}; get {published}, and give its path.")


def read_lpips(vgg_weights: str | None, linear_weights: str | None) -> dict[str, Any]:
    """The parameters of `models.lpips.LPIPS`, float32.

    Args:
      vgg_weights: path of torchvision's VGG16, a PyTorch state dict.
      linear_weights: path of LPIPS's own 1,472 weights, version 0.1, for VGG16.

    Raises:
      ArgumentError: a file is missing, damaged, or not of these names and shapes.
    """
    check_lpips_files(vgg_weights, linear_weights)
    vgg, linear = (Path(str(path)).expanduser() for path in (vgg_weights, linear_weights))
    _compare(vgg, VGG_SHA256, VGG_FILE)
    _compare(linear, LINEAR_SHA256, LINEAR_FILE)
    features = {name: a for name, a in read_torch_file(vgg).items() if name.startswith("features.")}
    return {
        "vgg16": _convolutions(check_arrays(features, _vgg_shapes(), str(vgg))),
        **_linear(check_arrays(read_torch_file(linear), _linear_shapes(), str(linear))),
    }


def _compare(path: Path, digits: str, published: str) -> None:
    found = file_digest(path, f"get {published}")
    if not found.startswith(digits):
        say(f"{path} is not the published file, {published}: SHA-256 {found[:8]}..., not {digits}")


def _vgg_shapes() -> dict[str, tuple[int, ...]]:
    channels = [3, *(channels for count, channels in VGG16 for _ in range(count))]
    shapes: dict[str, tuple[int, ...]] = {}
    for place, (before, after) in zip(PLACES, itertools.pairwise(channels), strict=True):
        shapes[f"features.{place}.weight"] = (after, before, 3, 3)
        shapes[f"features.{place}.bias"] = (after,)
    return shapes


def _linear_shapes() -> dict[str, tuple[int, ...]]:
    return {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, (_, channels) in enumerate(VGG16)}


def _convolutions(arrays: Named) -> dict[str, Named]:
    return {
        name: {
            "kernel": np.ascontiguousarray(
                arrays[f"features.{place}.weight"].transpose(2, 3, 1, 0)
            ),
            "bias": arrays[f"features.{place}.bias"],
        }
        for name, place in zip(convolution_names(), PLACES, strict=True)
    }


def _linear(arrays: Named) -> Named:
    return {f"linear{i + 1}": arrays[f"lin{i}.model.1.weight"].ravel() for i in range(len(VGG16))}
