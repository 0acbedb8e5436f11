"""Names of our parameters in the published networks.

A layout has one entry per array of ours, or per slice where we stack equal blocks or keep
queries, keys and values apart. Every layout is derived from the network's fields.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ict_jax.checkpoints.interop.block_order import (
    BlockRef,
    Path,
    block_groups,
    decoder_blocks,
    encoder_blocks,
    middle_blocks,
)
from ict_jax.core.randomness import seed_key
from ict_jax.models import ADM, NCSNpp
from ict_jax.models.unet import UNet


class Slice(NamedTuple):
    """A slice of one of our arrays and its source in another project."""

    path: Path  # of our array in the parameter tree
    index: int | None  # in our stack of equal blocks, if ours is stacked
    theirs: str  # name of their array
    axes: tuple[int, ...]  # their axes in our order
    shape: tuple[int, ...]  # of our slice
    third: int | None = None  # 0, 1 or 2 if ours is that third of the first axis of theirs


def jcm_layout(model: NCSNpp, image_shape: tuple[int, int, int] = (32, 32, 3)) -> list[Slice]:
    """Return the layout of OpenAI's CIFAR-10 networks; names are joined by slashes.

    Source: the names in the released checkpoints.
    """
    down, up = encoder_blocks(model, image_shape[0]), decoder_blocks(model, image_shape[0])
    names = {
        BlockRef(("fourier",)): "GaussianFourierProjection_0",
        BlockRef(("embed_0",)): "Dense_0",
        BlockRef(("embed_1",)): "Dense_1",
        BlockRef(("conv_in",)): "Conv_0",
        BlockRef(("norm_out",)): "GroupNorm_0",
        BlockRef(("conv_out",)): "Conv_1",
    }
    ordered = [*down, *middle_blocks(model), *up]
    for number, block in enumerate(ordered):
        names[block.ref] = f"ResnetBlockBigGANpp_{number}"
    attentions = [block.attention for block in ordered if block.attention is not None]
    for number, attention in enumerate(attentions):
        names[attention] = f"AttnBlockpp_{number}"
    for level in range(1, len(model.channel_mult)):
        names[BlockRef((f"pyramid_{level}",))] = f"Downsample_{level - 1}/Conv2d_0"
    layers = {
        "norm_0": "GroupNorm_0", "conv_0": "Conv_0", "embedding": "Dense_0",
        "norm_1": "GroupNorm_1", "conv_1": "Conv_1", "skip": "Conv_2",
        "norm": "GroupNorm_0", "query": "NIN_0", "key": "NIN_1", "value": "NIN_2", "out": "NIN_3",
    }  # fmt: skip
    found = []
    for path, index, shape in _slices(model, image_shape):
        prefix, layer, leaf = _split(names, path, index)
        if layer in ("query", "key", "value", "out"):
            leaf = {"kernel": "W", "bias": "b"}[leaf]
        elif path[0].startswith("pyramid") and leaf == "kernel":
            leaf = "weight"
        theirs = "/".join(part for part in (prefix, layers.get(layer, layer), leaf) if part)
        found.append(Slice(path, index, theirs, tuple(range(len(shape))), shape))
    return found


def adm_layout(model: ADM, image_shape: tuple[int, int, int] = (64, 64, 3)) -> list[Slice]:
    """Return the layout of OpenAI's ImageNet networks.

    Queries, keys and values are the thirds of one array, as in the networks trained with flash
    attention. Source: the names in the released checkpoints.
    """
    names = {
        BlockRef(("embed_0",)): "time_embed.0",
        BlockRef(("embed_1",)): "time_embed.2",
        BlockRef(("labels",)): "label_emb",
        BlockRef(("conv_in",)): "input_blocks.0.0",
        BlockRef(("norm_out",)): "out.0",
        BlockRef(("conv_out",)): "out.2",
        BlockRef(("middle_0",)): "middle_block.0",
        BlockRef(("middle_attention",)): "middle_block.1",
        BlockRef(("middle_1",)): "middle_block.2",
    }
    for number, block in enumerate(encoder_blocks(model, image_shape[0]), start=1):
        names[block.ref] = f"input_blocks.{number}.0"
        if block.attention is not None:
            names[block.attention] = f"input_blocks.{number}.1"
    number, inside = -1, 0
    for block in decoder_blocks(model, image_shape[0]):
        # The block that doubles the resolution ends the group of the block before it.
        number, inside = (number, inside) if block.resample else (number + 1, 0)
        for ref in (block.ref, block.attention):
            if ref is not None:
                names[ref] = f"output_blocks.{number}.{inside}"
                inside += 1
    layers = {
        "norm_0": "in_layers.0", "conv_0": "in_layers.2", "embedding": "emb_layers.1",
        "norm_1": "out_layers.0", "conv_1": "out_layers.3", "skip": "skip_connection",
        "norm": "norm", "query": "qkv", "key": "qkv", "value": "qkv", "out": "proj_out",
    }  # fmt: skip
    thirds = {"query": 0, "key": 1, "value": 2}
    return list(_torch_slices(model, image_shape, names, layers, thirds))


def diffusers_layout(model: ADM, image_shape: tuple[int, int, int] = (64, 64, 3)) -> list[Slice]:
    """Return the layout of `diffusers.UNet2DModel`. Source: the names of its modules."""
    names = {
        BlockRef(("embed_0",)): "time_embedding.linear_1",
        BlockRef(("embed_1",)): "time_embedding.linear_2",
        BlockRef(("labels",)): "class_embedding",
        BlockRef(("conv_in",)): "conv_in",
        BlockRef(("norm_out",)): "conv_norm_out",
        BlockRef(("conv_out",)): "conv_out",
        BlockRef(("middle_0",)): "mid_block.resnets.0",
        BlockRef(("middle_attention",)): "mid_block.attentions.0",
        BlockRef(("middle_1",)): "mid_block.resnets.1",
    }
    lowest, height = len(model.channel_mult) - 1, image_shape[0]
    for side, blocks in (
        ("down", encoder_blocks(model, height)),
        ("up", decoder_blocks(model, height)),
    ):
        counts: dict[int, int] = {}
        for block in blocks:
            number = block.level if side == "down" else lowest - block.level
            if block.resample:  # belongs to the resolution that it leaves
                names[block.ref] = f"{side}_blocks.{number - 1}.{side}samplers.0"
                continue
            inside = counts[number] = counts.get(number, -1) + 1
            names[block.ref] = f"{side}_blocks.{number}.resnets.{inside}"
            if block.attention is not None:
                names[block.attention] = f"{side}_blocks.{number}.attentions.{inside}"
    layers = {
        "norm_0": "norm1", "conv_0": "conv1", "embedding": "time_emb_proj",
        "norm_1": "norm2", "conv_1": "conv2", "skip": "conv_shortcut", "norm": "group_norm",
        "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0",
    }  # fmt: skip
    return list(_torch_slices(model, image_shape, names, layers, {}))


def _torch_slices(
    model: ADM,
    image_shape: tuple[int, int, int],
    names: dict[BlockRef, str],
    layers: dict[str, str],
    thirds: dict[str, int],
) -> Iterator[Slice]:
    """Yield the layout of PyTorch modules from the names of blocks and of their layers.

    Axes [out, in, height, width] there are [height, width, in, out] here.
    """
    for path, index, shape in _slices(model, image_shape):
        prefix, layer, leaf = _split(names, path, index)
        module = ".".join(part for part in (prefix, layers.get(layer, layer)) if part)
        theirs = f"{module}.{'bias' if leaf == 'bias' else 'weight'}"
        axes = tuple(range(len(shape)))
        if leaf == "kernel":
            axes = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        yield Slice(path, index, theirs, axes, shape, thirds.get(layer))


def _slices(
    model: UNet, image_shape: tuple[int, int, int]
) -> Iterator[tuple[Path, int | None, tuple[int, ...]]]:
    """Yield path, index in the stack and shape of each slice of our parameters."""
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    one, label = (jax.ShapeDtypeStruct((1,), dtype) for dtype in (jnp.float32, jnp.int32))
    tree = jax.eval_shape(model.init, seed_key(0), x, one, label)["params"]
    encoder, decoder = block_groups(model)
    lengths = {group.name: group.length for group in encoder + decoder}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = tuple(key.key for key in keys)
        length = lengths.get(path[0], 1)
        if length == 1:
            yield path, None, leaf.shape
        else:
            for index in range(length):
                yield path, index, leaf.shape[1:]


def _split(names: dict[BlockRef, str], path: Path, index: int | None) -> tuple[str, str, str]:
    """Return their name of the block, our layer in it ("" for none), and our leaf."""
    for depth in (1, 2):
        prefix = names.get(BlockRef(path[:depth], index))
        if prefix is not None:
            return prefix, ".".join(path[depth:-1]), path[-1]
    raise KeyError(f"no name for {path} at {index}")
