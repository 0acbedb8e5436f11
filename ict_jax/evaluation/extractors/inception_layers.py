"""The layers of the FID network, and the shapes of their weights.

Source: torch-fidelity's feature_extractor_inceptionv3.py and pytorch-fid's inception.py.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ict_jax.evaluation.extractors.layers import NORM

CLASSES = 1008


class Conv(NamedTuple):
    """A convolution, a normalization and a ReLU."""

    name: str
    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


class Pool(NamedTuple):
    """The mean or maximum of 3x3 pixels, ignoring those beyond the edge."""

    kind: str
    stride: int = 1
    padding: str = "SAME"


class Parallel:
    """Chains of layers on the same input, whose outputs are concatenated."""

    def __init__(self, *chains: "Chain"):
        self.chains = chains


Chain = Sequence[Conv | Pool | Parallel]

MEAN, MAX = Pool("mean"), Pool("max")
HALVE = Pool("max", 2, "VALID")


def _numbered(name: str, *layers: tuple[Any, ...]) -> Chain:
    """Return convolutions NAME_1, NAME_2, ... with the given fields after `Conv.name`."""
    return [Conv(f"{name}_{number}", *fields) for number, fields in enumerate(layers, 1)]


def _block_a(name: str, pool_filters: int) -> Parallel:
    return Parallel(
        [Conv(f"{name}.branch1x1", 64)],
        _numbered(f"{name}.branch5x5", (48,), (64, (5, 5))),
        _numbered(f"{name}.branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3))),
        [MEAN, Conv(f"{name}.branch_pool", pool_filters)],
    )


def _block_b(name: str) -> Parallel:
    return Parallel(
        [Conv(f"{name}.branch3x3", 384, (3, 3), 2, "VALID")],
        _numbered(f"{name}.branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3), 2, "VALID")),
        [HALVE],
    )


def _block_c(name: str, width: int) -> Parallel:
    wide, tall = (width, (1, 7)), (width, (7, 1))
    return Parallel(
        [Conv(f"{name}.branch1x1", 192)],
        _numbered(f"{name}.branch7x7", (width,), wide, (192, (7, 1))),
        _numbered(f"{name}.branch7x7dbl", (width,), tall, wide, tall, (192, (1, 7))),
        [MEAN, Conv(f"{name}.branch_pool", 192)],
    )


def _block_d(name: str) -> Parallel:
    wide, tall, halve = (192, (1, 7)), (192, (7, 1)), ((3, 3), 2, "VALID")
    return Parallel(
        _numbered(f"{name}.branch3x3", (192,), (320, *halve)),
        _numbered(f"{name}.branch7x7x3", (192,), wide, tall, (192, *halve)),
        [HALVE],
    )


def _block_e(name: str, pool: Pool) -> Parallel:
    def wide_and_tall(branch: str) -> Parallel:
        return Parallel(
            [Conv(f"{name}.{branch}a", 384, (1, 3))],
            [Conv(f"{name}.{branch}b", 384, (3, 1))],
        )

    return Parallel(
        [Conv(f"{name}.branch1x1", 320)],
        [Conv(f"{name}.branch3x3_1", 384), wide_and_tall("branch3x3_2")],
        [
            *_numbered(f"{name}.branch3x3dbl", (448,), (384, (3, 3))),
            wide_and_tall("branch3x3dbl_3"),
        ],
        [pool, Conv(f"{name}.branch_pool", 192)],
    )


STAGES: dict[str, Chain] = {
    "64": [
        Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
        Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
        Conv("Conv2d_2b_3x3", 64, (3, 3)),
        HALVE,
    ],
    "192": [
        Conv("Conv2d_3b_1x1", 80),
        Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"),
        HALVE,
    ],
    "768": [
        _block_a("Mixed_5b", 32),
        _block_a("Mixed_5c", 64),
        _block_a("Mixed_5d", 64),
        _block_b("Mixed_6a"),
        _block_c("Mixed_6b", 128),
        _block_c("Mixed_6c", 160),
        _block_c("Mixed_6d", 160),
        _block_c("Mixed_6e", 192),
    ],
    "2048": [
        _block_d("Mixed_7a"),
        _block_e("Mixed_7b", MEAN),
        _block_e("Mixed_7c", MAX),
    ],
}
"""The network in four parts, by torch-fidelity's name for the features after each."""


def conv_shapes() -> dict[str, tuple[int, int, int, int]]:
    """Return the shapes [filters, channels, h, w] of all kernels by the names of their layers."""
    shapes = {}

    def walk(layers: Chain, channels: int) -> int:
        for layer in layers:
            if isinstance(layer, Conv):
                shapes[layer.name] = (layer.filters, channels, *layer.kernel)
                channels = layer.filters
            elif isinstance(layer, Parallel):
                channels = sum(walk(chain, channels) for chain in layer.chains)
        return channels

    walk([layer for stage in STAGES.values() for layer in stage], 3)
    return shapes


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of all arrays in the published file, by its names."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (CLASSES, 2048), "fc.bias": (CLASSES,)}
    for name, shape in conv_shapes().items():
        shapes[f"{name}.conv.weight"] = shape
        shapes |= {f"{name}.bn.{part}": shape[:1] for part in NORM}
    return shapes
