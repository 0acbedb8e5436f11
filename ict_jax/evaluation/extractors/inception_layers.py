"""The layers of the FID network, and the shapes of their weights.

Source: torch-fidelity's feature_extractor_inceptionv3.py and pytorch-fid's inception.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

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
    """The mean or maximum of 3x3 pixels; what lies beyond the edge does not count."""

    kind: str
    stride: int = 1
    padding: str = "SAME"


class Split(NamedTuple):
    """Chains of layers on the same input; their outputs are concatenated."""

    chains: "tuple[Chain, ...]"


def split(*chains: "Chain") -> Split:
    """Chains side by side."""
    return Split(chains)


Chain = Sequence[Conv | Pool | Split]

MEAN, MAX = Pool("mean"), Pool("max")
HALVE = Pool("max", 2, "VALID")


def _block_a(name: str, pool_filters: int) -> Split:
    return split(
        [Conv(f"{name}.branch1x1", 64)],
        [Conv(f"{name}.branch5x5_1", 48), Conv(f"{name}.branch5x5_2", 64, (5, 5))],
        _double(name, 1),
        [MEAN, Conv(f"{name}.branch_pool", pool_filters)],
    )


def _double(name: str, stride: int) -> Chain:
    return [
        Conv(f"{name}.branch3x3dbl_1", 64),
        Conv(f"{name}.branch3x3dbl_2", 96, (3, 3)),
        Conv(f"{name}.branch3x3dbl_3", 96, (3, 3), stride, "SAME" if stride == 1 else "VALID"),
    ]


def _block_b(name: str) -> Split:
    return split(
        [Conv(f"{name}.branch3x3", 384, (3, 3), 2, "VALID")],
        _double(name, 2),
        [HALVE],
    )


def _block_c(name: str, width: int) -> Split:
    return split(
        [Conv(f"{name}.branch1x1", 192)],
        [
            Conv(f"{name}.branch7x7_1", width),
            Conv(f"{name}.branch7x7_2", width, (1, 7)),
            Conv(f"{name}.branch7x7_3", 192, (7, 1)),
        ],
        [
            Conv(f"{name}.branch7x7dbl_1", width),
            Conv(f"{name}.branch7x7dbl_2", width, (7, 1)),
            Conv(f"{name}.branch7x7dbl_3", width, (1, 7)),
            Conv(f"{name}.branch7x7dbl_4", width, (7, 1)),
            Conv(f"{name}.branch7x7dbl_5", 192, (1, 7)),
        ],
        [MEAN, Conv(f"{name}.branch_pool", 192)],
    )


def _block_d(name: str) -> Split:
    return split(
        [
            Conv(f"{name}.branch3x3_1", 192),
            Conv(f"{name}.branch3x3_2", 320, (3, 3), 2, "VALID"),
        ],
        [
            Conv(f"{name}.branch7x7x3_1", 192),
            Conv(f"{name}.branch7x7x3_2", 192, (1, 7)),
            Conv(f"{name}.branch7x7x3_3", 192, (7, 1)),
            Conv(f"{name}.branch7x7x3_4", 192, (3, 3), 2, "VALID"),
        ],
        [HALVE],
    )


def _block_e(name: str, pool: Pool) -> Split:
    def wide_and_tall(branch: str) -> Split:
        return split(
            [Conv(f"{name}.{branch}a", 384, (1, 3))],
            [Conv(f"{name}.{branch}b", 384, (3, 1))],
        )

    return split(
        [Conv(f"{name}.branch1x1", 320)],
        [Conv(f"{name}.branch3x3_1", 384), wide_and_tall("branch3x3_2")],
        [
            Conv(f"{name}.branch3x3dbl_1", 448),
            Conv(f"{name}.branch3x3dbl_2", 384, (3, 3)),
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
"""The network in four parts, by the name that torch-fidelity has for the features after each."""


def convolutions() -> dict[str, tuple[int, int, int, int]]:
    """Shapes [filters, channels, h, w] of all kernels, by the names of their layers."""
    shapes = {}

    def walk(layers: Chain, channels: int) -> int:
        for layer in layers:
            if isinstance(layer, Conv):
                shapes[layer.name] = (layer.filters, channels, *layer.kernel)
                channels = layer.filters
            elif isinstance(layer, Split):
                channels = sum(walk(chain, channels) for chain in layer.chains)
        return channels

    channels = 3
    for stage in STAGES.values():
        channels = walk(stage, channels)
    return shapes


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays in the published file, by its names."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (CLASSES, 2048), "fc.bias": (CLASSES,)}
    for name, shape in convolutions().items():
        shapes[f"{name}.conv.weight"] = shape
        shapes |= {f"{name}.bn.{part}": shape[:1] for part in NORM}
    return shapes
