"""The weights of LPIPS, from the two files in which they are published."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ict_jax.checkpoints.interop.arrays import Named, check_arrays, file_digest
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from ict_jax.core.errors import require
from ict_jax.models.lpips import VGG16, convolution_names
from ict_jax.runtime.console import say

VGG_FILE = "vgg16-397923af.pth of https://download.pytorch.org/models (528 MiB)"
LINEAR_FILE = "weights/v0.1/vgg.pth of PyPI's package lpips (7 kB)"

VGG_SHA256 = "397923af"
LINEAR_SHA256 = "a78928a0"
"""First digits of the published files' SHA-256."""

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Indices of the convolutions among the layers `features` of torchvision's VGG16."""


def check_lpips_files(vgg_weights: str | None, linear_weights: str | None) -> None:
    """Raise `ArgumentError` unless both files exist."""
    for name, path, published in [
        ("vgg_weights", vgg_weights, VGG_FILE),
        ("linear_weights", linear_weights, LINEAR_FILE),
    ]:
        exists = path is not None and Path(path).expanduser().is_file()
        found = " is not given" if path is None else f"={path} is no file"
        require(exists, f"config.lpips.{name}{found}; get {published}, and give its path.")


def read_lpips(vgg_weights: str | None, linear_weights: str | None) -> dict[str, Any]:
    """Read the float32 parameters of `models.lpips.LPIPS`.

    Args:
      vgg_weights: path of torchvision's VGG16, a PyTorch state dict.
      linear_weights: path of LPIPS's own 1,472 weights, version 0.1, for VGG16.

    Raises:
      ArgumentError: a file is missing, damaged, or not of these names and shapes.
    """
    check_lpips_files(vgg_weights, linear_weights)
    vgg, linear = (Path(str(path)).expanduser() for path in (vgg_weights, linear_weights))
    _compare_digest(vgg, VGG_SHA256, VGG_FILE)
    _compare_digest(linear, LINEAR_SHA256, LINEAR_FILE)
    features = {name: a for name, a in read_torch_file(vgg).items() if name.startswith("features.")}
    convolutions = check_arrays(features, _vgg_shapes(), str(vgg))
    names = [f"lin{i}.model.1.weight" for i in range(len(VGG16))]
    shapes = {name: (1, channels, 1, 1) for name, (_, channels) in zip(names, VGG16, strict=True)}
    weights = check_arrays(read_torch_file(linear), shapes, str(linear))
    return {
        "vgg16": _convolutions(convolutions),
        **{f"linear{i}": weights[name].ravel() for i, name in enumerate(names, start=1)},
    }


def _compare_digest(path: Path, digits: str, published: str) -> None:
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
