"""The residual blocks of a U-Net in the order of computation, which published names count."""

from collections.abc import Iterator
from typing import NamedTuple

from ict_jax.models.block_plan import BlockGroup, plan_block_groups
from ict_jax.models.unet import UNet

Path = tuple[str, ...]


class BlockRef(NamedTuple):
    """A block of ours: the path of its submodule, and its index if it is in a stack."""

    path: Path
    index: int | None = None


class ResidualBlock(NamedTuple):
    """A residual block, and the attention block after it, if any."""

    ref: BlockRef
    attention: BlockRef | None
    resample: bool  # whether the block changes the resolution
    level: int  # of its output


def block_groups(model: UNet) -> tuple[list[BlockGroup], list[BlockGroup]]:
    """Return the groups of equal blocks of encoder and decoder."""
    return plan_block_groups(model.channels, tuple(model.channel_mult), model.num_res_blocks)


def _group_blocks(group: BlockGroup, attend: bool) -> Iterator[ResidualBlock]:
    for place in range(group.length):
        index = place if group.length > 1 else None
        attention = BlockRef((group.name, "attention"), index) if attend else None
        yield ResidualBlock(BlockRef((group.name, "block"), index), attention, False, group.level)


def encoder_blocks(model: UNet, image_height: int) -> Iterator[ResidualBlock]:
    """Yield the residual blocks of the encoder, for images of that height."""
    level = 0
    for group in block_groups(model)[0]:
        if group.level > level:
            level = group.level
            yield ResidualBlock(BlockRef((f"down_{level}_resample",)), None, True, level)
        yield from _group_blocks(group, image_height >> level in model.attention_resolutions)


def middle_blocks(model: UNet) -> Iterator[ResidualBlock]:
    """Yield the residual blocks between encoder and decoder."""
    level = len(model.channel_mult) - 1
    yield ResidualBlock(BlockRef(("middle_0",)), BlockRef(("middle_attention",)), False, level)
    yield ResidualBlock(BlockRef(("middle_1",)), None, False, level)


def decoder_blocks(model: UNet, image_height: int) -> Iterator[ResidualBlock]:
    """Yield the residual blocks of the decoder, for images of that height."""
    groups = block_groups(model)[1]
    for place, group in enumerate(groups):
        attend = image_height >> group.level in model.attention_resolutions
        blocks = list(_group_blocks(group, attend and not model.attend_after_last_up))
        ends = place + 1 == len(groups) or groups[place + 1].level < group.level
        if ends and attend and model.attend_after_last_up:
            attention = BlockRef((f"up_{group.level}_attention",))
            blocks[-1] = blocks[-1]._replace(attention=attention)
        yield from blocks
        if ends and group.level:
            level = group.level - 1
            yield ResidualBlock(BlockRef((f"up_{level}_resample",)), None, True, level)
