"""ADM, the network for ImageNet 64x64."""

import flax.linen as nn
from jaxtyping import Array, Float

from ict_jax.models import layers
from ict_jax.models.blocks import Conventions
from ict_jax.models.unet import UNet


class ADM(UNet):
    """ADM for ImageNet 64x64.

    | | with scale-shift norm | without (iCT) |
    |---|---|---|
    | 3 blocks | 295,899,267 parameters | 282,168,003 |
    | 6 blocks (iCT-deep) | 495,357,699 | 472,767,555 |

    Attributes (beside those of `UNet`):
      head_channels: channels of an attention head.
      scale_shift_norm: whether the embedding scales and shifts the second norm of each block
        (AdaGN, the models released with CM); iCT adds it instead.
      c_noise_multiplier: factor of c_noise = log(sigma) / 4 before the positional embedding. The
        models released with CM have 1000. iCT does not say, but calls the embedding as smooth as
        Fourier features of scale 0.02, which is true for 1 only.
      min_group_channels: least channels of a group; group norms have 32 groups, or fewer. ADM
        always has 32; narrow networks need more than one channel per group.

    Source: Dhariwal & Nichol, 2021, as in the CM authors' code; iCT, Section 3.1 and Appendix.
    """

    channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    head_channels: int = 64
    scale_shift_norm: bool = False
    c_noise_multiplier: float = 1.0
    min_group_channels: int = 1

    def conventions(self) -> Conventions:
        """Return ADM's: PyTorch's default initialisation, zeros in the last layers."""
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return Conventions(
            kernel_init=uniform,
            attention_init=uniform,
            last_init=nn.initializers.zeros,
            torch_bias=True,
            norm_epsilon=1e-5,
            min_group_channels=self.min_group_channels,
            resample_kernel=(1, 1),
            project_resampled=False,
            skip_scale=1.0,
            scale_shift=self.scale_shift_norm,
            head_channels=self.head_channels,
        )

    def noise_features(self, c_noise: Float[Array, " b"]) -> Float[Array, "b e"]:
        """Return positional features, e = channels."""
        return layers.positional_embedding(self.c_noise_multiplier * c_noise, self.channels)
