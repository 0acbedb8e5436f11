"""Consistency training (CT) as in *Consistency Models* (Song et al., 2023)."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core.discretization import Discretization, num_scales_at
from ict_jax.core.errors import require
from ict_jax.core.losses import mean_squared_distance, unit_weight
from ict_jax.core.objectives.base import Objective, pair_objective
from ict_jax.core.typing import Metric, Step, Weighting


def ct_objective(
    disc: Discretization,
    *,
    mu0: float = 0.9,
    s0: int = 2,
    metric: Metric = mean_squared_distance,
    weight: Weighting = unit_weight,
) -> Objective:
    """Return CT: the teacher is the student's EMA, mu(k) = exp(s0 log(mu0) / (N(k) - 1)).

    The authors' code divides by N(k) - 1, the text of the paper by N(k); this follows the code.

    Args:
      disc: with `sqrt_curriculum` and `uniform_law`.
      mu0: mu at N = s0 + 1.
      s0: as in the curriculum.
      metric: `mean_squared_distance`, `mean_absolute_distance`, or LPIPS, the paper's best, a
        network with its parameters bound (`ict_jax.models.LPIPS`).
      weight: weight of each example.

    Raises:
      ArgumentError: mu0 is not in (0, 1), or s0 < 1.

    Source: CM, Algorithm 3, Section 5 and Appendix C; the CM authors' code.
    """
    require(0 < mu0 < 1, f"mu0={mu0} must be in (0, 1); the paper has 0.9 for CIFAR-10.")
    require(s0 >= 1, f"s0={s0} must be at least 1; the paper has 2.")

    def target_decay(step: Step) -> Float[Array, ""]:
        return jnp.exp(s0 * math.log(mu0) / (num_scales_at(step, disc) - 1).astype(jnp.float32))

    return pair_objective(disc, metric, weight, target_decay)
