"""Residual blocks and attention of the U-Nets, and the conventions of published ones."""

from typing import Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ict_jax.models import layers
from ict_jax.models.low_precision import conv_layer, dense_layer

Resample: TypeAlias = Literal["up", "down"] | None


class Conventions(NamedTuple):
    """Conventions of a published network's blocks.

    Attributes:
      kernel_init: initializer of convolutions and dense layers.
      attention_init: initializer of the projections to queries, keys and values.
      last_init: initializer of the last layer of each block and of the network.
      torch_bias: biases uniform as in PyTorch, but zero in last layers; otherwise all zero.
      norm_epsilon: epsilon of GroupNorm.
      min_group_channels: least channels of a group of GroupNorm, which has at most 32 groups.
      resample_kernel: separable filter for doubling and halving the resolution.
      project_resampled: whether the skip of a resampling block is always convolved; otherwise
        only where the number of channels changes.
      skip_scale: factor of the sum of a block and its skip.
      scale_shift: whether the embedding scales and shifts the second norm (AdaGN); otherwise
        it is added before the norm.
      head_channels: channels of an attention head; None for one head.
    """

    kernel_init: Initializer
    attention_init: Initializer
    last_init: Initializer
    torch_bias: bool
    norm_epsilon: float
    min_group_channels: int
    resample_kernel: tuple[float, ...]
    project_resampled: bool
    skip_scale: float
    scale_shift: bool
    head_channels: int | None


class Maker(NamedTuple):
    """Factory of layers by the conventions, in a compute dtype."""

    conventions: Conventions
    dtype: Dtype

    def norm(self, channels: int, name: str) -> nn.GroupNorm:
        """Return a GroupNorm in float32."""
        groups = num_groups(channels, self.conventions.min_group_channels)
        return nn.GroupNorm(
            groups, epsilon=self.conventions.norm_epsilon, dtype=jnp.float32, name=name
        )

    def conv(
        self,
        channels_in: int,
        channels: int,
        name: str,
        *,
        size: int = 3,
        last: bool = False,
        stride: int = 1,
        padding: str = "SAME",
    ) -> nn.Conv:
        """Return a square convolution; `last` in its block or in the network."""
        return conv_layer(
            channels,
            (size, size),
            strides=stride,
            padding=padding,
            dtype=self.dtype,
            kernel_init=self.conventions.last_init if last else self.conventions.kernel_init,
            bias_init=self._bias_init(channels_in * size * size, last),
            name=name,
        )

    def dense(
        self,
        channels_in: int,
        channels: int,
        name: str,
        *,
        last: bool = False,
        attention: bool = False,
    ) -> nn.Dense:
        """Return a dense layer on the last axis; `attention` for queries, keys and values."""
        rules = self.conventions
        init = rules.attention_init if attention else rules.kernel_init
        return dense_layer(
            channels,
            dtype=self.dtype,
            kernel_init=rules.last_init if last else init,
            bias_init=self._bias_init(channels_in, last),
            name=name,
        )

    def _bias_init(self, fan_in: int, last: bool) -> Initializer:
        if last or not self.conventions.torch_bias:
            return nn.initializers.zeros
        bound = fan_in**-0.5
        return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
            key, shape, dtype, -bound, bound
        )


def num_groups(channels: int, min_group_channels: int) -> int:
    """Return the number of groups of a GroupNorm."""
    return max(1, min(channels // min_group_channels, 32))


class ResBlock(nn.Module):
    """Residual block: norm, swish, (resample,) conv, embedding, norm, swish, dropout, conv.

    Attributes:
      maker: conventions and dtype.
      features: output channels.
      resample: doubles ("up") or halves ("down") the resolution, before the first convolution
        and on the skip.
      dropout: dropout rate.
      train: whether dropout is on.

    Source: BigGAN blocks of Song et al., 2021 (NCSN++); Dhariwal & Nichol, 2021 (ADM).
    """

    maker: Maker
    features: int
    resample: Resample = None
    dropout: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h2 w2 features"]:
        maker, rules, channels = self.maker, self.maker.conventions, x.shape[-1]
        h = nn.swish(maker.norm(channels, "norm_0")(x)).astype(x.dtype)
        if self.resample is not None:
            resample = layers.upsample if self.resample == "up" else layers.downsample
            h, x = resample(h, rules.resample_kernel), resample(x, rules.resample_kernel)
        h = maker.conv(channels, self.features, "conv_0")(h)
        # The embedding stays in float32: bfloat16 cannot tell neighbouring noise levels apart.
        width = self.features * (2 if rules.scale_shift else 1)
        float32 = maker._replace(dtype=jnp.dtype("float32"))
        e = float32.dense(embedding.shape[-1], width, "embedding")(embedding)[:, None, None]
        norm = maker.norm(self.features, "norm_1")
        if rules.scale_shift:
            scale, shift = jnp.split(e, 2, axis=-1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + e)
        h = nn.Dropout(self.dropout, deterministic=not self.train)(nn.swish(h).astype(x.dtype))
        h = maker.conv(self.features, self.features, "conv_1", last=True)(h)
        if channels != self.features or (self.resample and rules.project_resampled):
            x = maker.conv(channels, self.features, "skip", size=1)(x)
        return (x + h) * rules.skip_scale


class SelfAttention(nn.Module):
    """Residual self-attention over all pixels, with the softmax in float32.

    Source: Ho et al., 2020 (one head); Dhariwal & Nichol, 2021 (heads of 64 channels).
    """

    maker: Maker

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        maker, rules = self.maker, self.maker.conventions
        b, height, width, channels = x.shape
        head = rules.head_channels or channels
        h = maker.norm(channels, "norm")(x).astype(x.dtype)

        def project(name: str) -> Array:
            out = maker.dense(channels, channels, name, attention=True)(h)
            return out.reshape(b, height * width, channels // head, head)

        h = jax.nn.dot_product_attention(project("query"), project("key"), project("value"))
        h = h.reshape(b, height, width, channels)
        h = maker.dense(channels, channels, "out", last=True)(h)
        return (x + h) * rules.skip_scale
