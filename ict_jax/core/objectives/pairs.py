"""Common part of the objectives that compare adjacent noise levels."""

from collections.abc import Callable

from jaxtyping import Array, Float

from ict_jax.core import randomness
from ict_jax.core.discretization import Discretization, draw_sigma_pair
from ict_jax.core.losses import Aux, consistency_terms
from ict_jax.core.objectives.base import Draw, Draws, Objective
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, PRNGKey, Step, Weighting


def pair_objective(
    disc: Discretization,
    metric: Metric | None,
    weight: Weighting | None,
    target_decay: Callable[[Step], Float[Array, ""]] | None,
) -> Objective:
    """Return consistency training on adjacent levels of a grid, the common form of CT and iCT.

    Args:
      disc: curriculum, grid and noise distribution.
      metric: as in `consistency_loss`.
      weight: as in `consistency_loss`.
      target_decay: mu(k) of the teacher; None for the student itself.

    Source: CM, Algorithm 3.
    """

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
