"""Consistency distillation (CD) from a diffusion model, as in *Consistency Models*."""

import jax.numpy as jnp

from ict_jax.core.discretization import Discretization
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, add_noise, compare, mean_squared_distance, unit_weight
from ict_jax.core.objectives.base import Draws, Objective, make_draw_pair
from ict_jax.core.sampling import heun_step
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, Weighting


def cd_objective(
    disc: Discretization,
    *,
    target_decay: float = 0.0,
    metric: Metric = mean_squared_distance,
    weight: Weighting = unit_weight,
) -> Objective:
    """Return CD: the teacher's input is one Heun step of the diffusion model from the student's.

    d(f(x_hi, sigma_hi), f^-(heun_step(D, x_hi, sigma_hi, sigma_lo), sigma_lo)),
    x_hi = x + sigma_hi z

    Args:
      disc: one stage of few levels, 18 in the paper for CIFAR-10, with `uniform_law`.
      target_decay: mu of the EMA f^-; with 0 it is the student itself.
      metric: as in `ct_objective`.
      weight: weight of each example.

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
        x_hi = add_noise(x, noise, sigma_hi)
        # One step down the ODE, in place of the same noise at sigma_lo that CT uses.
        x_lo = heun_step(denoiser, x_hi, sigma_hi, sigma_lo)
        target_output = (f if target is None else target)(x_lo, sigma_lo)
        return compare(
            f(x_hi, sigma_hi), target_output, sigma_lo, sigma_hi, metric=metric, weight=weight
        )

    decay = (lambda step: jnp.float32(target_decay)) if target_decay else None
    return Objective(make_draw_pair(disc), loss, decay, has_denoiser=True)
