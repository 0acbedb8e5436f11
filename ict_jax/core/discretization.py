"""Tables of a whole run's noise levels and their law, and drawing from them at a traced step.

All tables are computed once on the host in float64. Inside a jitted step they are constants
that a traced `step` indexes, so one compilation serves every stage of the curriculum.
"""

import dataclasses
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from ict_jax.core import randomness
from ict_jax.core.errors import require
from ict_jax.core.schedules import (
    Curriculum,
    NoiseLaw,
    Stage,
    check_sigma_range,
    doubling_curriculum,
    karras_sigmas,
    lognormal_law,
)
from ict_jax.core.typing import PRNGKey, Step

MOST_STEPS = 10**8
"""Far beyond any training, and well within the int32 that counts the steps."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Discretization:
    """Tables of all S stages of a run; made by `make_discretization`, a pytree of arrays.

    Attributes:
      first_steps: step at which each stage begins.
      num_scales: N of each stage.
      sigmas: the grid of each stage, padded to the largest N with sigma_max.
      thresholds: inner bin edges of the law in units of 2^-32, for drawing by integers.
    """

    first_steps: Int[np.ndarray | Array, " s"]
    num_scales: Int[np.ndarray | Array, " s"]
    sigmas: Float[np.ndarray | Array, "s n_max"]
    thresholds: UInt32[np.ndarray | Array, "s bins"]


def make_discretization(
    total_steps: int,
    *,
    s0: int = 10,
    s1: int = 1280,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    curriculum: Curriculum = doubling_curriculum,
    noise_law: NoiseLaw | None = None,
) -> Discretization:
    """The noise levels and their law over a whole run; the defaults are iCT's.

    Args:
      total_steps: K, the number of training steps.
      s0: N - 1 in the first stage.
      s1: N - 1 in the last stage.
      sigma_min: smallest noise standard deviation, in units of data scaled to [-1, 1].
      sigma_max: largest noise standard deviation.
      rho: exponent of the Karras grid.
      p_mean: P_mean of the lognormal law (natural logarithm of sigma).
      p_std: P_std of the lognormal law.
      curriculum: replaces N(k); gets K, s0 and s1.
      noise_law: replaces the lognormal law over pairs; then p_mean and p_std are not used.

    Raises:
      ArgumentError: a value breaks its rule, or the law or curriculum returns nonsense.

    Source: iCT, Table 1.
    """
    require(
        isinstance(total_steps, Integral) and 1 <= total_steps <= MOST_STEPS,
        f"total_steps={total_steps} must be a whole number from 1 to {MOST_STEPS:,}; the paper "
        "has 400,000 for CIFAR-10.",
    )
    check_sigma_range(sigma_min, sigma_max, rho)
    stages = [Stage(*stage) for stage in curriculum(total_steps, s0=s0, s1=s1)]
    first_steps = [stage.first_step for stage in stages]
    require(
        bool(stages) and first_steps[0] == 0 and first_steps == sorted(set(first_steps)),
        f"the curriculum's first steps are {first_steps[:4]}; they must begin with 0 and "
        "increase, so return one Stage per value of N in order.",
    )
    law = lognormal_law(p_mean=p_mean, p_std=p_std) if noise_law is None else noise_law
    n_max = max(stage.num_scales for stage in stages)
    sigmas = np.full((len(stages), n_max), sigma_max, np.float32)
    thresholds = np.full((len(stages), max(n_max - 2, 1)), 2**32 - 1, np.uint32)
    for row, (_, n) in enumerate(stages):
        grid = karras_sigmas(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        sigmas[row, :n] = grid
        thresholds[row, : n - 2] = _thresholds(np.asarray(law(grid), np.float64), n)
    return Discretization(
        first_steps=np.array(first_steps, np.int32),
        num_scales=np.array([stage.num_scales for stage in stages], np.int32),
        sigmas=sigmas,
        thresholds=thresholds,
    )


def _thresholds(weights: np.ndarray, num_scales: int) -> np.ndarray:
    """Inner cumulative probabilities of the N - 1 bins, in units of 2^-32."""
    require(
        weights.shape == (num_scales - 1,),
        f"the noise law returned shape {weights.shape} for N={num_scales} levels; return one "
        f"weight per adjacent pair, shape ({num_scales - 1},).",
    )
    total = weights.sum()
    require(
        bool(np.isfinite(total) and total > 0 and (weights >= 0).all()),
        f"the noise law returned weights with sum {total} and minimum {weights.min()} for "
        f"N={num_scales}; they must be finite, not negative and not all zero, so bring its "
        "parameters nearer to the range of sigma.",
    )
    edges = np.cumsum(weights)[:-1] / total * 2.0**32
    return np.minimum(np.rint(edges), 2**32 - 1).astype(np.uint32)


def _stage_at(step: Step, disc: Discretization) -> Int[Array, ""]:
    return jnp.maximum(jnp.sum(jnp.asarray(step) >= disc.first_steps) - 1, 0)


def num_scales_at(step: Step, disc: Discretization) -> Int[Array, ""]:
    """N(k): the number of noise levels at a training step, which may be traced."""
    return jnp.asarray(disc.num_scales)[_stage_at(step, disc)]


def draw_sigma_pair(
    key: PRNGKey, shape: tuple[int, ...], step: Step, disc: Discretization
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Draws adjacent levels (sigma_lo, sigma_hi) = (sigma_i, sigma_{i+1}), each of `shape`.

    The index is found by comparing 32 random bits with the law's cumulative thresholds, so
    each bin has its probability to 2^-32: float32 uniforms are a percent off in the rarest
    bins at N = 1281.

    Source: iCT, Table 1 (noise schedule).
    """
    stage = _stage_at(step, disc)
    bits = randomness.bits(key, shape)
    index = jnp.searchsorted(jnp.asarray(disc.thresholds)[stage], bits, side="right")
    index = jnp.minimum(index, jnp.asarray(disc.num_scales)[stage] - 2)
    grid = jnp.asarray(disc.sigmas)[stage]
    return grid[index], grid[index + 1]
