"""NCSN++ and DDPM++, the networks for 32x32 images."""

from typing import ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from ict_jax.models import layers
from ict_jax.models.blocks import Conventions
from ict_jax.models.unet import UNet


class NCSNpp(UNet):
    """NCSN++ as in iCT on CIFAR-10: 56,395,651 parameters, 97,610,627 in iCT-deep.

    Attributes (beside those of `UNet`):
      embedding: features of the noise level, "fourier" or "positional".
      fourier_scale: iCT has 0.02, the models released with CM have 16.
      resample_kernel: separable filter for doubling and halving the resolution.
      residual_input: whether the input, filtered, halved and convolved, is added to the features
        at each resolution.

    Source: Song et al., 2021, as in the CM authors' code; iCT, Section 3.1 and Appendix.
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (2, 2, 2)
    num_res_blocks: int = 4
    attention_resolutions: tuple[int, ...] = (16,)
    embedding: Literal["fourier", "positional"] = "fourier"
    fourier_scale: float = 0.02
    resample_kernel: tuple[float, ...] = (1, 3, 3, 1)
    residual_input: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]

    attend_after_last_up: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise `ValueError` for a field out of range."""
        if self.embedding not in ("fourier", "positional") or self.fourier_scale <= 0:
            raise ValueError(
                f"embedding={self.embedding!r} must be 'fourier' or 'positional' and fourier_scale="
                f"{self.fourier_scale} positive; iCT has 'fourier' and 0.02."
            )
        if len(self.resample_kernel) not in (2, 4):
            raise ValueError(
                f"resample_kernel={tuple(self.resample_kernel)} must have 2 or 4 taps; NCSN++ has "
                "(1, 3, 3, 1), DDPM++ (1, 1)."
            )
        super().__post_init__()

    def conventions(self) -> Conventions:
        """Return Song et al.'s: Xavier-uniform weights, zero biases, sums divided by sqrt(2)."""
        kernel, attention, last = (
            nn.initializers.variance_scaling(scale, "fan_avg", "uniform")
            for scale in (1.0, 0.1, 1e-10)
        )
        return Conventions(
            kernel_init=kernel,
            attention_init=attention,
            last_init=last,
            torch_bias=False,
            norm_epsilon=1e-6,
            min_group_channels=4,
            resample_kernel=tuple(self.resample_kernel),
            project_resampled=True,
            skip_scale=0.5**0.5,
            scale_shift=False,
            head_channels=None,
        )

    def noise_features(self, c_noise: Float[Array, " b"]) -> Float[Array, "b e"]:
        """Return Fourier features, e = 2 * channels, or positional ones, e = channels."""
        if self.embedding == "positional":
            return layers.positional_embedding(c_noise, self.channels)
        # Called from the compact method, so the submodule belongs to it.
        embed = layers.FourierEmbedding(2 * self.channels, self.fourier_scale, name="fourier")
        return embed(c_noise)


class DDPMpp(NCSNpp):
    """DDPM++ as in EDM on CIFAR-10: NCSN++ with other features and filter, and no input pyramid.

    Checked by its structure and 55.7 million parameters, not against published outputs.

    Source: EDM, Table 7 and Appendix F.6.
    """

    embedding: Literal["fourier", "positional"] = "positional"
    resample_kernel: tuple[float, ...] = (1, 1)
    residual_input: bool = False  # pyright: ignore[reportIncompatibleVariableOverride]
