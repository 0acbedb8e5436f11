"""Common U-Net of NCSN++, DDPM++ and ADM."""

import itertools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ict_jax.models import layers
from ict_jax.models.block_plan import BlockGroup, plan_block_groups
from ict_jax.models.blocks import Conventions, Maker, Resample, ResBlock, SelfAttention, num_groups


class Cell(nn.Module):
    """One step of a block group: concatenation of the skip, residual block, optional attention."""

    maker: Maker
    features: int
    attend: bool
    dropout: float
    train: bool

    @nn.compact
    def __call__(self, h: Array, skip: Array | None, embedding: Array) -> tuple[Array, Array]:
        if skip is not None:
            h = jnp.concatenate([h, skip], axis=-1)
        h = ResBlock(
            self.maker, self.features, dropout=self.dropout, train=self.train, name="block"
        )(h, embedding)
        if self.attend:
            h = SelfAttention(self.maker, name="attention")(h)
        return h, h


class UNet(nn.Module):
    """Base U-Net; subclasses define conventions, noise features and defaults.

    Equal consecutive blocks are one `nn.scan` over stacked parameters. `scan_blocks` decides
    whether the compiled program keeps the loop; the parameters are the same either way.

    Attributes:
      channels: width at the full resolution, before `channel_mult`.
      channel_mult: factors of the width at each resolution, each half the one before.
      num_res_blocks: residual blocks at each resolution of the encoder; the decoder has one more.
      attention_resolutions: image heights at which blocks are followed by attention.
      dropout: rate in the residual blocks.
      dropout_max_resolution: largest image height with dropout; None for all.
      num_classes: number of classes; 0 for an unconditional network.
      dtype: compute dtype, "float32" or "bfloat16". Parameters, norms, the softmax and the
        last convolution are float32 in any case.
      remat: recompute the inside of each block in the backward pass, to save memory.
      scan_blocks: compile a group of equal blocks once instead of once per block.
    """

    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    dropout: float = 0.0
    dropout_max_resolution: int | None = None
    num_classes: int = 0
    dtype: str = "float32"
    remat: bool = False
    scan_blocks: bool = False

    residual_input: ClassVar[bool] = False
    """Whether the input is added at each resolution."""
    attend_after_last_up: ClassVar[bool] = False
    """Whether in the decoder only the last block of a resolution is followed by attention."""

    def conventions(self) -> Conventions:
        """Return the conventions of the blocks."""
        raise NotImplementedError

    def noise_features(self, c_noise: Float[Array, " b"]) -> Float[Array, "b e"]:
        """Return features of the noise level, before the two dense layers."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Raise `ValueError` for a field out of range."""
        for name, least in {"channels": 1, "num_res_blocks": 1, "num_classes": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ValueError(f"channel_mult={self.channel_mult} must be whole numbers from 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1); iCT has 0.3 and 0.2.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype={self.dtype!r} must be 'float32' or 'bfloat16'.")
        self._check_divisible()
        super().__post_init__()

    def _plan(self) -> tuple[list[BlockGroup], list[BlockGroup]]:
        return plan_block_groups(self.channels, tuple(self.channel_mult), self.num_res_blocks)

    def _check_divisible(self) -> None:
        rules = self.conventions()
        down, up = self._plan()
        for group in down + up:
            for width in (group.channels_in + group.channels_skip, group.channels):
                groups = num_groups(width, rules.min_group_channels)
                if width % groups:
                    raise ValueError(
                        f"channels={self.channels} leads to a layer of {width} channels, which "
                        f"{groups} groups do not divide; use a multiple of 32."
                    )
            if not rules.scale_shift and groups == group.channels:  # groups: of the last width
                raise ValueError(
                    f"channels={self.channels} leads to groups of one channel, in which a group "
                    "norm removes an added embedding; use at least twice as many channels."
                )
        head, widths = rules.head_channels, sorted({group.channels for group in down})
        if head is not None and any(width % head for width in widths):
            raise ValueError(
                f"head_channels={head} must divide the widths {widths}; choose a divisor."
            )

    def check_image_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` unless images (h, w, c) can be halved as often as needed."""
        factor = 2 ** (len(self.channel_mult) - 1)
        if len(shape) != 3 or shape[0] % factor or shape[1] % factor:
            raise ValueError(
                f"images of shape {shape} cannot be halved {len(self.channel_mult) - 1} times, as "
                f"channel_mult={tuple(self.channel_mult)} asks; use heights and widths divisible "
                f"by {factor}, or fewer factors."
            )
        heights = [shape[0] // 2**level for level in range(len(self.channel_mult))]
        if not set(self.attention_resolutions) <= set(heights):
            raise ValueError(
                f"attention_resolutions={tuple(self.attention_resolutions)} must be among the "
                f"heights {heights} of images of shape {shape}."
            )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        c_noise: Float[Array, " b"],
        labels: Int[Array, " b"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        maker = Maker(self.conventions(), jnp.dtype(self.dtype))
        down, up = self._plan()
        embedding = self._embed(maker, c_noise, labels)
        full_height, pyramid = x.shape[1], x.astype(maker.dtype)

        def resblock(name: str, level: int, h: Array, resample: Resample = None) -> Array:
            rate = self._dropout_rate(full_height >> level)
            block = nn.remat(ResBlock) if self.remat else ResBlock
            return block(maker, h.shape[-1], resample, rate, train, name=name)(h, embedding)

        # Encoder: each output, also of conv_in and of the resampling blocks, becomes a skip.
        h = maker.conv(x.shape[-1], self.channels, "conv_in")(pyramid)
        skips = [h]
        for level, groups in itertools.groupby(down, key=lambda group: group.level):
            height = full_height >> level
            if level:
                h = resblock(f"down_{level}_resample", level, h, "down")
                if self.residual_input:
                    pyramid = h = self._add_input(maker, pyramid, h, f"pyramid_{level}")
                skips.append(h)
            for group in groups:
                h, outputs = self._apply_group(maker, group, h, [], embedding, height, train)
                skips += outputs
        # Middle, at the lowest resolution.
        lowest = len(self.channel_mult) - 1
        h = resblock("middle_0", lowest, h)
        h = SelfAttention(maker, name="middle_attention")(h)
        h = resblock("middle_1", lowest, h)
        # Decoder: each block takes the latest skip left.
        for level, groups in itertools.groupby(up, key=lambda group: group.level):
            height = full_height >> level
            if level < lowest:
                h = resblock(f"up_{level}_resample", level, h, "up")
            for group in groups:
                latest = [skips.pop() for _ in range(group.length)]
                h, _ = self._apply_group(maker, group, h, latest, embedding, height, train)
            if self.attend_after_last_up and height in self.attention_resolutions:
                h = SelfAttention(maker, name=f"up_{level}_attention")(h)
        # Output in float32, whatever the compute dtype.
        h = nn.swish(maker.norm(h.shape[-1], "norm_out")(h))
        maker = maker._replace(dtype=jnp.dtype("float32"))
        return maker.conv(h.shape[-1], x.shape[-1], "conv_out", last=True)(h)

    def _embed(self, maker: Maker, c_noise: Array, labels: Array | None) -> Array:
        """Embed noise level and class in float32; in bfloat16 neighbouring levels coincide."""
        features, size = self.noise_features(c_noise), 4 * self.channels
        maker = maker._replace(dtype=jnp.dtype("float32"))
        embedding = nn.swish(maker.dense(features.shape[-1], size, "embed_0")(features))
        embedding = maker.dense(size, size, "embed_1")(embedding)
        if self.num_classes:
            init = nn.initializers.normal(1.0)
            embed = nn.Embed(self.num_classes, size, embedding_init=init, name="labels")
            embedding += embed(labels)
        return nn.swish(embedding)

    def _dropout_rate(self, height: int) -> float:
        limit = self.dropout_max_resolution
        return self.dropout if limit is None or height <= limit else 0.0

    def _apply_group(
        self,
        maker: Maker,
        group: BlockGroup,
        h: Array,
        skips: list[Array],
        embedding: Array,
        height: int,
        train: bool,
    ) -> tuple[Array, list[Array]]:
        """Apply a group of blocks; return the last output and all outputs."""
        attend = height in self.attention_resolutions
        attend = attend and not (skips and self.attend_after_last_up)
        cell = (maker, group.channels, attend, self._dropout_rate(height), train)
        kind = Cell
        if self.remat or (group.length > 1 and self.scan_blocks):
            # A loop would keep all values for the gradient; keep products, recompute the rest.
            policy = None if self.remat else _is_product
            kind = nn.remat(Cell, prevent_cse=group.length == 1, policy=policy)
        if group.length == 1:
            h, output = kind(*cell, name=group.name)(h, skips[0] if skips else None, embedding)
            return h, [output]
        scanned: Any = nn.scan(
            kind,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast),  # pyright: ignore[reportArgumentType]  # skips, embedding
            length=group.length,
            unroll=1 if self.scan_blocks else group.length,
        )
        stacked = jnp.stack(skips) if skips else None
        h, outputs = scanned(*cell, name=group.name)(h, stacked, embedding)
        return h, list(outputs)

    def _add_input(self, maker: Maker, pyramid: Array, h: Array, name: str) -> Array:
        """Add the input, filtered, halved and convolved, to the features of its resolution."""
        rules, channels = maker.conventions, pyramid.shape[-1]
        pyramid = layers.blur(pyramid, rules.resample_kernel, (2, 2))
        conv = maker.conv(channels, h.shape[-1], name, stride=2, padding="VALID")
        return (conv(pyramid) + h) * rules.skip_scale


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    """Select products, convolutions and sums; XLA keeps the same where there is no loop."""
    return primitive.name in ("conv_general_dilated", "dot_general", "reduce_sum")
