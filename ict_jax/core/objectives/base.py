"""Common interface and building blocks of the objectives."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core import randomness
from ict_jax.core.discretization import Discretization, draw_sigma_pair
from ict_jax.core.losses import Aux, consistency_terms
from ict_jax.core.typing import (
    ConsistencyFn,
    Data,
    Metric,
    PerExample,
    PRNGKey,
    Sigmas,
    Step,
    Weighting,
)


class Draws(NamedTuple):
    """Random draws of a step, one row per example of the global batch.

    Objectives with a single noise level store it as both sigmas.
    """

    noise: Data
    sigma_lo: Sigmas
    sigma_hi: Sigmas


Draw: TypeAlias = Callable[[PRNGKey, tuple[int, ...], Step], Any]
"""`draw(key, [b, *dims], step)` -> `Draws`, or other arrays with one row per example."""

Loss: TypeAlias = Callable[..., tuple[PerExample, Aux]]
"""`loss(f, x, draws, **others)` -> (losses [b], dict of [b] diagnostics).

The diagnostics contain `sigma_hi` and `squared_distance`. The others are those of `target`,
`denoiser` and `loss_params` that the objective declares.
"""


class Objective(NamedTuple):
    """An objective as pure functions.

    Drawing and loss are separate so that a train step can draw for the whole global batch and
    then accumulate gradients over microbatches: the same values for any number of them.

    Attributes:
      draw: random draws of a step.
      loss: function to minimise.
      target_decay: mu(k) of the student's EMA, passed to the loss as the function `target` with
        the student's dropout mask; None if the student itself is the teacher.
      has_denoiser: whether the loss gets a trained diffusion model's D(x, sigma) as `denoiser`.
      of_network: whether the loss gets the raw network F(x, c_noise) in place of f.
      init_loss_params: initialises parameters of the loss itself, a learned weight for instance;
        they are trained with the network's and passed as `loss_params`. None if there are none.
    """

    draw: Draw
    loss: Loss
    target_decay: Callable[[Step], Float[Array, ""]] | None = None
    has_denoiser: bool = False
    of_network: bool = False
    init_loss_params: Callable[[PRNGKey], Any] | None = None


def draw_noise(
    key: PRNGKey, shape: tuple[int, ...], p_mean: float, p_std: float
) -> tuple[Float[Array, "..."], Sigmas]:
    """Draw standard normal noise of `shape` and levels with log sigma ~ N(p_mean, p_std^2)."""
    key_sigma, key_noise = randomness.split(key)
    sigma = jnp.exp(p_mean + p_std * randomness.normal(key_sigma, shape[:1]))
    return randomness.normal(key_noise, shape), sigma


def pair_objective(
    disc: Discretization,
    metric: Metric | None,
    weight: Weighting | None,
    target_decay: Callable[[Step], Float[Array, ""]] | None,
) -> Objective:
    """Return training on adjacent levels of a grid, as in CT and iCT. Source: CM, Algorithm 3."""

    def loss(
        f: ConsistencyFn, x: Data, draws: Draws, *, target: ConsistencyFn | None = None
    ) -> tuple[PerExample, Aux]:
        return consistency_terms(f, x, *draws, teacher=target, metric=metric, weight=weight)

    return Objective(make_draw_pair(disc), loss, target_decay)


def make_draw_pair(disc: Discretization) -> Draw:
    """Return a draw of noise and adjacent levels of a discretization."""

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> Draws:
        key_sigma, key_noise = randomness.split(key)
        sigma_lo, sigma_hi = draw_sigma_pair(key_sigma, shape[:1], step, disc)
        return Draws(randomness.normal(key_noise, shape), sigma_lo, sigma_hi)

    return draw
