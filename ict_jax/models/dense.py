"""A small dense network for images of a few dozen values."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ict_jax.models.layers import FourierEmbedding


class DenseNet(nn.Module):
    """Residual multi-layer perceptron F(x, c_noise) on the flattened image.

    Each block adds the embedded noise level and label before its non-linearity, as the
    paper's networks do; the last layer and the second one of each block start at zero.

    Attributes:
      width: width of the residual stream.
      hidden: width inside a block.
      num_blocks: number of residual blocks.
      dropout: rate inside each block.
      embedding_size: number of Fourier features of the noise level.
      fourier_scale: scale of the Fourier features; the paper has 0.02.
      num_classes: number of classes; 0 for an unconditional network, which ignores labels.
    """

    width: int = 512
    hidden: int = 512
    num_blocks: int = 3
    dropout: float = 0.0
    embedding_size: int = 128
    fourier_scale: float = 0.02
    num_classes: int = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` for a field out of range."""
        smallest = {"width": 1, "hidden": 1, "num_blocks": 1, "embedding_size": 2, "num_classes": 0}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        if not (0 <= self.dropout < 1 and self.fourier_scale > 0):
            raise ValueError(
                f"dropout={self.dropout} must be in [0, 1) and fourier_scale={self.fourier_scale} "
                "positive; the paper has 0.3 and 0.02 for CIFAR-10."
            )
        super().__post_init__()

    def check_image_shape(self, shape: tuple[int, ...]) -> None:
        """Accept images of any shape."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        c_noise: Float[Array, " b"],
        labels: Int[Array, " b"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        embedding = FourierEmbedding(self.embedding_size, self.fourier_scale)(c_noise)
        embedding = nn.swish(nn.Dense(2 * self.embedding_size)(embedding))
        embedding = nn.Dense(2 * self.embedding_size)(embedding)
        if self.num_classes:
            embedding += nn.Embed(self.num_classes, 2 * self.embedding_size)(labels)
        embedding = nn.swish(embedding)
        h = nn.Dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.num_blocks):
            r = nn.Dense(self.hidden)(nn.LayerNorm()(h)) + nn.Dense(self.hidden)(embedding)
            r = nn.Dropout(self.dropout, deterministic=not train)(nn.swish(r))
            h = h + nn.Dense(self.width, kernel_init=nn.initializers.zeros)(r)
        h = nn.swish(nn.LayerNorm()(h))
        out = nn.Dense(math.prod(x.shape[1:]), kernel_init=nn.initializers.zeros)(h)
        return jnp.reshape(out, x.shape)
