"""The residual blocks of a U-Net in the order of computation, which published names count."""

from collections.abc import Iterator
from typing import NamedTuple

from ict_jax.models.block_plan import BlockGroup, plan_block_groups
from ict_jax.models.unet import UNet

Path = tuple[str, ...]


class Place(NamedTuple):
    """A block of ours: the path of its submodule and its place in a stack."""

    path: Path
    index: int | None = None


class Step(NamedTuple):
    """A residual block in the order of computation, with what follows it at once.

    Attributes:
      block: the residual block.
      attention: None if none follows.
      resample: whether the block changes the resolution.
      level: of its output.
    """

    block: Place
    attention: Place | None
    resample: bool
    level: int


def plan(model: UNet) -> tuple[list[BlockGroup], list[BlockGroup]]:
    """The runs of equal blocks on the way down and up."""
    return plan_block_groups(model.channels, tuple(model.channel_mult), model.num_res_blocks)


def _cells(run: BlockGroup, attend: bool) -> Iterator[Step]:
    for place in range(run.length):
        index = place if run.length > 1 else None
        attention = Place((run.name, "attention"), index) if attend else None
        yield Step(Place((run.name, "block"), index), attention, False, run.level)


def down_steps(model: UNet, image_height: int) -> Iterator[Step]:
    """The residual blocks on the way down, for images of that height."""
    level = 0
    for run in plan(model)[0]:
        if run.level > level:
            level = run.level
            yield Step(Place((f"down_{level}_resample",)), None, True, level)
        yield from _cells(run, image_height >> level in model.attention_resolutions)


def middle_steps(model: UNet) -> Iterator[Step]:
    """The residual blocks at the lowest resolution between the two ways."""
    level = len(model.channel_mult) - 1
    yield Step(Place(("middle_0",)), Place(("middle_attention",)), False, level)
    yield Step(Place(("middle_1",)), None, False, level)


def up_steps(model: UNet, image_height: int) -> Iterator[Step]:
    """The residual blocks on the way up, for images of that height."""
    runs = plan(model)[1]
    for place, run in enumerate(runs):
        attend = image_height >> run.level in model.attention_resolutions
        cells = list(_cells(run, attend and not model.attend_after_last_up))
        ends = place + 1 == len(runs) or runs[place + 1].level < run.level
        if ends and attend and model.attend_after_last_up:
            cells[-1] = cells[-1]._replace(attention=Place((f"up_{run.level}_attention",)))
        yield from cells
        if ends and run.level:
            yield Step(Place((f"up_{run.level - 1}_resample",)), None, True, run.level - 1)
