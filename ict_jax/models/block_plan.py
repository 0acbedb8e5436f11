"""Which blocks a U-Net has, and which of them are equal and in a row."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple


class BlockGroup(NamedTuple):
    """Equal blocks in a row; their parameters are stacked along a first axis.

    Attributes:
      name: of the submodule.
      level: 0 for the full resolution, 1 for half of it, ...
      length: number of blocks.
      channels_in: that each block gets from the one before.
      channels_skip: that each gets from the way down; 0 on the way down.
      channels: that each returns.
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
    """The runs on the way down and those on the way up, in the order of computation."""
    widths = [channels * mult for mult in channel_mult]
    down, skips, width = [], [channels], channels
    for level, wide in enumerate(widths):
        blocks = []
        for _ in range(num_res_blocks):
            blocks.append((width, 0))
            skips.append(wide)
            width = wide
        down += _group("down", level, wide, blocks)
        if level < len(widths) - 1:
            skips.append(wide)
    up = []
    for level, wide in reversed(list(enumerate(widths))):
        blocks = []
        for _ in range(num_res_blocks + 1):
            blocks.append((width, skips.pop()))
            width = wide
        up += _group("up", level, wide, blocks)
    return down, up


def _group(
    way: str, level: int, channels: int, blocks: list[tuple[int, int]]
) -> Iterator[BlockGroup]:
    for index, (inputs, group) in enumerate(itertools.groupby(blocks)):
        yield BlockGroup(f"{way}_{level}_{index}", level, len(list(group)), *inputs, channels)
