"""Which of our parameters is called what in the published networks.

A layout is one entry for each of our arrays; where we stack equal blocks or keep queries, keys
and values apart, one entry for each slice. Every layout is derived from the network's fields.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ict_jax.checkpoints.interop.block_order import (
    Path,
    Place,
    down_steps,
    middle_steps,
    plan,
    up_steps,
)
from ict_jax.core.randomness import seed_key
from ict_jax.models import ADM, NCSNpp
from ict_jax.models.unet import UNet


class Slice(NamedTuple):
    """A part of one of our arrays and where it is in the other project.

    Attributes:
      path: of our array in the tree of parameters.
      index: place in our stack of equal blocks; None where ours is not stacked.
      theirs: name of their array.
      axes: their axes in our order.
      shape: of our part.
      third: 0, 1 or 2 where ours is that third of the first axis of theirs; None for all of it.
    """

    path: Path
    index: int | None
    theirs: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    third: int | None = None


def jcm_layout(model: NCSNpp, image_shape: tuple[int, int, int] = (32, 32, 3)) -> list[Slice]:
    """Names in the Flax tree of OpenAI's CIFAR-10 networks, joined by slashes.

    Source: the released checkpoints' own names.
    """
    down, up = down_steps(model, image_shape[0]), up_steps(model, image_shape[0])
    names = {
        Place(("fourier",)): "GaussianFourierProjection_0",
        Place(("embed_0",)): "Dense_0",
        Place(("embed_1",)): "Dense_1",
        Place(("conv_in",)): "Conv_0",
        Place(("norm_out",)): "GroupNorm_0",
        Place(("conv_out",)): "Conv_1",
    }
    ordered = [*down, *middle_steps(model), *up]
    for number, step in enumerate(ordered):
        names[step.block] = f"ResnetBlockBigGANpp_{number}"
    attentions = [step.attention for step in ordered if step.attention is not None]
    for number, place in enumerate(attentions):
        names[place] = f"AttnBlockpp_{number}"
    for level in range(1, len(model.channel_mult)):
        names[Place((f"pyramid_{level}",))] = f"Downsample_{level - 1}/Conv2d_0"
    layers = {
        "norm_0": "GroupNorm_0", "conv_0": "Conv_0", "embedding": "Dense_0",
        "norm_1": "GroupNorm_1", "conv_1": "Conv_1", "skip": "Conv_2",
        "norm": "GroupNorm_0", "query": "NIN_0", "key": "NIN_1", "value": "NIN_2", "out": "NIN_3",
    }  # fmt: skip
    found = []
    for path, index, shape in _parts(model, image_shape):
        prefix, layer, leaf = _split(names, path, index)
        if layer in ("query", "key", "value", "out"):
            leaf = {"kernel": "W", "bias": "b"}[leaf]
        elif path[0].startswith("pyramid") and leaf == "kernel":
            leaf = "weight"
        theirs = "/".join(part for part in (prefix, layers.get(layer, layer), leaf) if part)
        found.append(Slice(path, index, theirs, tuple(range(len(shape))), shape))
    return found


def adm_layout(model: ADM, image_shape: tuple[int, int, int] = (64, 64, 3)) -> list[Slice]:
    """Names in the PyTorch state dict of OpenAI's ImageNet networks.

    Queries, keys and values are the thirds of one array, as in the networks trained with flash
    attention.

    Source: the released checkpoints' own names.
    """
    names = {
        Place(("embed_0",)): "time_embed.0",
        Place(("embed_1",)): "time_embed.2",
        Place(("labels",)): "label_emb",
        Place(("conv_in",)): "input_blocks.0.0",
        Place(("norm_out",)): "out.0",
        Place(("conv_out",)): "out.2",
        Place(("middle_0",)): "middle_block.0",
        Place(("middle_attention",)): "middle_block.1",
        Place(("middle_1",)): "middle_block.2",
    }
    for number, step in enumerate(down_steps(model, image_shape[0]), start=1):
        names[step.block] = f"input_blocks.{number}.0"
        if step.attention is not None:
            names[step.attention] = f"input_blocks.{number}.1"
    number, inside = -1, 0
    for step in up_steps(model, image_shape[0]):
        # The block that doubles the resolution ends the group of the block before it.
        number, inside = (number, inside) if step.resample else (number + 1, 0)
        for place in (step.block, step.attention):
            if place is not None:
                names[place] = f"output_blocks.{number}.{inside}"
                inside += 1
    layers = {
        "norm_0": "in_layers.0", "conv_0": "in_layers.2", "embedding": "emb_layers.1",
        "norm_1": "out_layers.0", "conv_1": "out_layers.3", "skip": "skip_connection",
        "norm": "norm", "query": "qkv", "key": "qkv", "value": "qkv", "out": "proj_out",
    }  # fmt: skip
    thirds = {"query": 0, "key": 1, "value": 2}
    return list(_torch_slices(model, image_shape, names, layers, thirds))


def diffusers_layout(model: ADM, image_shape: tuple[int, int, int] = (64, 64, 3)) -> list[Slice]:
    """Names in the state dict of `diffusers.UNet2DModel`.

    Source: the names of the library's own modules.
    """
    names = {
        Place(("embed_0",)): "time_embedding.linear_1",
        Place(("embed_1",)): "time_embedding.linear_2",
        Place(("labels",)): "class_embedding",
        Place(("conv_in",)): "conv_in",
        Place(("norm_out",)): "conv_norm_out",
        Place(("conv_out",)): "conv_out",
        Place(("middle_0",)): "mid_block.resnets.0",
        Place(("middle_attention",)): "mid_block.attentions.0",
        Place(("middle_1",)): "mid_block.resnets.1",
    }
    lowest, height = len(model.channel_mult) - 1, image_shape[0]
    for side, steps in (("down", down_steps(model, height)), ("up", up_steps(model, height))):
        counts: dict[int, int] = {}
        for step in steps:
            number = step.level if side == "down" else lowest - step.level
            if step.resample:  # belongs to the resolution that it leaves
                names[step.block] = f"{side}_blocks.{number - 1}.{side}samplers.0"
                continue
            inside = counts[number] = counts.get(number, -1) + 1
            names[step.block] = f"{side}_blocks.{number}.resnets.{inside}"
            if step.attention is not None:
                names[step.attention] = f"{side}_blocks.{number}.attentions.{inside}"
    layers = {
        "norm_0": "norm1", "conv_0": "conv1", "embedding": "time_emb_proj",
        "norm_1": "norm2", "conv_1": "conv2", "skip": "conv_shortcut", "norm": "group_norm",
        "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0",
    }  # fmt: skip
    return list(_torch_slices(model, image_shape, names, layers, {}))


def _torch_slices(
    model: ADM,
    image_shape: tuple[int, int, int],
    names: dict[Place, str],
    layers: dict[str, str],
    thirds: dict[str, int],
) -> Iterator[Slice]:
    """A layout of PyTorch modules, from the names of blocks and of the layers in them.

    Axes [out, in, height, width] there are [height, width, in, out] here.
    """
    for path, index, shape in _parts(model, image_shape):
        prefix, layer, leaf = _split(names, path, index)
        module = ".".join(part for part in (prefix, layers.get(layer, layer)) if part)
        theirs = f"{module}.{'bias' if leaf == 'bias' else 'weight'}"
        axes = tuple(range(len(shape)))
        if leaf == "kernel":
            axes = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        yield Slice(path, index, theirs, axes, shape, thirds.get(layer))


def _parts(
    model: UNet, image_shape: tuple[int, int, int]
) -> Iterator[tuple[Path, int | None, tuple[int, ...]]]:
    """Path, place in the stack and shape of each part of our tree."""
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    one, label = (jax.ShapeDtypeStruct((1,), dtype) for dtype in (jnp.float32, jnp.int32))
    tree = jax.eval_shape(model.init, seed_key(0), x, one, label)["params"]
    down, up = plan(model)
    lengths = {run.name: run.length for run in down + up}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = tuple(key.key for key in keys)
        length = lengths.get(path[0], 1)
        if length == 1:
            yield path, None, leaf.shape
        else:
            for index in range(length):
                yield path, index, leaf.shape[1:]


def _split(names: dict[Place, str], path: Path, index: int | None) -> tuple[str, str, str]:
    """Their name of the block, our layer in it ("" for none), our leaf."""
    for depth in (1, 2):
        prefix = names.get(Place(path[:depth], index))
        if prefix is not None:
            return prefix, ".".join(path[depth:-1]), path[-1]
    raise KeyError(f"no name for {path} at {index}")
