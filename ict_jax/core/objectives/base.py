"""The form that every objective has."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core import randomness
from ict_jax.core.losses import Aux
from ict_jax.core.typing import Data, PerExample, PRNGKey, Sigmas, Step


class Draws(NamedTuple):
    """What a step draws at random for each example of the global batch.

    Objectives of a single noise level have it in both places.
    """

    noise: Data
    sigma_lo: Sigmas
    sigma_hi: Sigmas


@runtime_checkable
class Draw(Protocol):
    """`draw(key, shape, step)` -> the random numbers for a batch of `shape` [b, *dims].

    `Draws`, or another pytree of arrays that have one row per example.
    """

    def __call__(self, key: PRNGKey, shape: tuple[int, ...], step: Step, /) -> Any: ...


Loss: TypeAlias = Callable[..., tuple[PerExample, Aux]]
"""`loss(f, x, draws, **others)` -> (losses [b], dict of [b] diagnostics).

The diagnostics hold `sigma_hi` and `squared_distance`. Of the others an objective takes those
that it declares: `target`, `denoiser` and `own`.
"""


class Objective(NamedTuple):
    """An objective in pure parts.

    Drawing and loss are apart so that a train step can draw for the whole global batch and then
    accumulate gradients over slices of it: the same numbers whatever the slicing.

    Attributes:
      draw: what is random.
      loss: what is minimised.
      target_decay: mu(k) of a moving average of the student, whose function, with the student's
        dropout mask, the loss gets as `target`; None if the student itself is the teacher.
      has_denoiser: whether the loss gets a trained diffusion model's D(x, sigma) as `denoiser`.
      of_network: whether the loss gets the raw network F(x, c_noise) in place of f.
      init_own: makes parameters of the objective itself, of a learned weight for instance, which
        are trained with the network's; the loss gets them as `own`. None if there are none.
    """

    draw: Draw
    loss: Loss
    target_decay: Callable[[Step], Float[Array, ""]] | None = None
    has_denoiser: bool = False
    of_network: bool = False
    init_loss_params: Callable[[PRNGKey], Any] | None = None


def draw_sigmas(
    key: PRNGKey, shape: tuple[int, ...], *, p_mean: float, p_std: float
) -> Float[Array, "..."]:
    """Noise levels whose natural logarithm is normal with mean p_mean and deviation p_std."""
    return jnp.exp(p_mean + p_std * randomness.normal(key, shape))
