"""Consistency distillation (CD) from a diffusion model, as in *Consistency Models*."""

import jax.numpy as jnp

from ict_jax.core.discretization import Discretization
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, compare, mean_squared_distance, noisy, unit_weight
from ict_jax.core.objectives.base import Draws, Objective
from ict_jax.core.objectives.pairs import draw_pair
from ict_jax.core.sampling import heun_step
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, Weighting


def cd_objective(
    disc: Discretization,
    *,
    target_decay: float = 0.0,
    metric: Metric = mean_squared_distance,
    weight: Weighting = unit_weight,
) -> Objective:
    """CD: the teacher's input is one Heun step of the diffusion model from the student's.

    d(f(x_hi, sigma_hi), f^-(heun_step(D, x_hi, sigma_hi, sigma_lo), sigma_lo)),
    x_hi = x + sigma_hi z

    Args:
      disc: with one stage of few levels, 18 in the paper for CIFAR-10, and `uniform_law`.
      target_decay: mu of the moving average f^-; with 0 it is the student itself.
      metric: `mean_squared_distance`, `mean_absolute_distance`, or LPIPS, the paper's best one,
        which is a network with its parameters bound (`ict_jax.models.LPIPS`).
      weight: of each example.

    Raises:
      ArgumentError: target_decay is not in [0, 1).

    Source: CM, Algorithm 2 and Section 5.
    """
    require(0 <= target_decay < 1, f"target_decay={target_decay} must be in [0, 1).")

    def loss(
        f: ConsistencyFn,
        x: Data,
        draws: Draws,
        *,
        denoiser: ConsistencyFn,
        target: ConsistencyFn | None = None,
    ) -> tuple[PerExample, Aux]:
        noise, sigma_lo, sigma_hi = draws
        x_hi = noisy(x, noise, sigma_hi)
        x_lo = heun_step(denoiser, x_hi, sigma_hi, sigma_lo)
        aimed_at = (f if target is None else target)(x_lo, sigma_lo)
        return compare(
            f(x_hi, sigma_hi), aimed_at, sigma_lo, sigma_hi, metric=metric, weight=weight
        )

    return Objective(
        draw_pair(disc),
        loss,
        (lambda step: jnp.float32(target_decay)) if target_decay else None,
        has_denoiser=True,
    )
