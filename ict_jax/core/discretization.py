"""Tables of a run's noise levels and their distribution, and draws from them at a traced step.

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

MAX_STEPS = 10**8
"""Upper bound of a run's length; keeps step counts well within int32."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Discretization:
    """Tables of all S stages of a run, a pytree of arrays; see `make_discretization`.

    Attributes:
      first_steps: first step of each stage.
      num_scales: N of each stage.
      sigmas: grid of each stage, padded to the largest N with sigma_max.
      thresholds: inner cumulative probabilities of the bins, in units of 2^-32.
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
    """Tabulate a run's noise levels and their distribution; the defaults are iCT's (Table 1).

    Args:
      total_steps: K, the number of training steps.
      s0: N - 1 in the first stage.
      s1: N - 1 in the last stage.
      sigma_min: smallest noise standard deviation, in units of data scaled to [-1, 1].
      sigma_max: largest noise standard deviation.
      rho: exponent of the Karras grid.
      p_mean: P_mean, mean of log sigma (natural logarithm).
      p_std: P_std, standard deviation of log sigma.
      curriculum: N(k), called with K, s0 and s1.
      noise_law: replaces the lognormal distribution over pairs, and with it p_mean and p_std.

    Raises:
      ArgumentError: a value out of range, or a bad result of the curriculum or noise law.
    """
    require(
        isinstance(total_steps, Integral) and 1 <= total_steps <= MAX_STEPS,
        f"total_steps={total_steps} must be a whole number from 1 to {MAX_STEPS:,}; the paper "
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
    num_scales = [stage.num_scales for stage in stages]
    # Rows are padded to the finest stage: sigmas with sigma_max, thresholds with the largest bits.
    sigmas = np.full((len(stages), max(num_scales)), sigma_max, np.float32)
    thresholds = np.full((len(stages), max(max(num_scales) - 2, 1)), 2**32 - 1, np.uint32)
    for row, n in enumerate(num_scales):
        grid = karras_sigmas(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        sigmas[row, :n] = grid
        thresholds[row, : n - 2] = _thresholds(np.asarray(law(grid), np.float64), n)
    return Discretization(
        first_steps=np.array(first_steps, np.int32),
        num_scales=np.array(num_scales, np.int32),
        sigmas=sigmas,
        thresholds=thresholds,
    )


def _thresholds(weights: np.ndarray, num_scales: int) -> np.ndarray:
    """Compute the inner cumulative probabilities of the N - 1 bins, in units of 2^-32."""
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
    """Return N(k), the number of noise levels at a training step, which may be traced."""
    return jnp.asarray(disc.num_scales)[_stage_at(step, disc)]


def draw_sigma_pair(
    key: PRNGKey, shape: tuple[int, ...], step: Step, disc: Discretization
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Draw adjacent levels (sigma_lo, sigma_hi) = (sigma_i, sigma_{i+1}), each of `shape`.

    The index is found by comparing 32 random bits with the cumulative thresholds, so each bin
    has its probability to 2^-32: float32 uniforms are a percent off in the rarest bins at
    N = 1281. Source: iCT, Table 1 (noise schedule).
    """
    stage = _stage_at(step, disc)
    bits = randomness.bits(key, shape)
    # Inverse CDF on integers: i = number of thresholds <= bits.
    index = jnp.searchsorted(jnp.asarray(disc.thresholds)[stage], bits, side="right")
    # Bits of 2^32 - 1 pass the padded thresholds too; keep them in the last bin of the stage.
    index = jnp.minimum(index, jnp.asarray(disc.num_scales)[stage] - 2)
    grid = jnp.asarray(disc.sigmas)[stage]
    return grid[index], grid[index + 1]
