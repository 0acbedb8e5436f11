"""Groups of equal consecutive blocks of a U-Net."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple


class BlockGroup(NamedTuple):
    """Equal consecutive blocks; their parameters are stacked along a first axis.

    Attributes:
      name: name of the submodule.
      level: 0 for the full resolution, 1 for half of it, ...
      length: number of blocks.
      channels_in: channels from the previous block.
      channels_skip: channels of the encoder's skip connection; 0 in the encoder.
      channels: output channels.
    """

    name: str
    level: int
    length: int
    channels_in: int
    channels_skip: int
    channels: int


def plan_block_groups(
    channels: int, channel_mult: tuple[int, ...], num_res_blocks: int
) -> tuple[list[BlockGroup], list[BlockGroup]]:
    """Return the block groups of the encoder and of the decoder, in the order of computation."""
    levels = [(level, channels * mult) for level, mult in enumerate(channel_mult)]
    down, skips, width = [], [channels], channels
    for level, features in levels:
        blocks = [(width, 0)] + [(features, 0)] * (num_res_blocks - 1)
        down += _group("down", level, features, blocks)
        skips += [features] * num_res_blocks
        width = features
        if level < len(levels) - 1:
            skips.append(features)  # output of the resampling block
    up = []
    for level, features in reversed(levels):
        blocks = []
        for _ in range(num_res_blocks + 1):
            blocks.append((width, skips.pop()))
            width = features
        up += _group("up", level, features, blocks)
    return down, up


def _group(
    side: str, level: int, channels: int, blocks: list[tuple[int, int]]
) -> Iterator[BlockGroup]:
    for index, (inputs, group) in enumerate(itertools.groupby(blocks)):
        yield BlockGroup(f"{side}_{level}_{index}", level, len(list(group)), *inputs, channels)
