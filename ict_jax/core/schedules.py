"""Noise levels: the Karras grid, the curriculum N(k), and the distribution over adjacent pairs.

Everything here is computed on the host in float64, before anything is traced.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64

from ict_jax.core.errors import require


class Stage(NamedTuple):
    """Training with `num_scales` noise levels from `first_step` on, until the next stage."""

    first_step: int
    num_scales: int


@runtime_checkable
class Curriculum(Protocol):
    """`curriculum(total_steps, s0=..., s1=...)` -> stages in order, the first at step 0."""

    def __call__(self, total_steps: int, /, *, s0: int, s1: int) -> Sequence[Stage]: ...


NoiseLaw: TypeAlias = Callable[[Float64[np.ndarray, " n"]], np.ndarray]
"""`law(sigmas)` -> unnormalised probability of each of the N - 1 adjacent pairs."""


def check_sigma_range(sigma_min: float, sigma_max: float, rho: float) -> None:
    """Raise `ArgumentError` unless 0 < sigma_min < sigma_max < inf, 1 <= rho <= 100."""
    require(
        0 < sigma_min < sigma_max < math.inf,
        f"sigma_min={sigma_min} and sigma_max={sigma_max} must satisfy 0 < sigma_min < "
        "sigma_max; give the smaller noise level as sigma_min (the paper has 0.002 and 80).",
    )
    require(1 <= rho <= 100, f"rho={rho} must be between 1 and 100; the paper has 7.")


def karras_sigmas(
    num_scales: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float64[np.ndarray, " n"]:
    """Return the N noise levels of the Karras grid, ascending, with exact end points.

    sigma_i = (sigma_min^(1/rho) + (i-1)/(N-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho

    Float64, because float32 misses both end points, and its gaps, whose inverses weight the
    loss, are off by up to 1.4e-4 at N = 1281.

    Args:
      num_scales: N, at least 2.
      sigma_min: smallest noise standard deviation, in units of data scaled to [-1, 1].
      sigma_max: largest noise standard deviation.
      rho: exponent of the grid; larger puts more levels near `sigma_min`.

    Raises:
      ArgumentError: N < 2, not a whole number, or a bad range or rho.

    Source: Karras et al. 2022 (EDM), Eq. 5; Song & Dhariwal 2023 (iCT), Section 2.

    >>> karras_sigmas(3).round(4).tolist()
    [0.002, 2.5152, 80.0]
    """
    check_sigma_range(sigma_min, sigma_max, rho)
    require(
        num_scales == int(num_scales) >= 2,
        f"num_scales={num_scales} must be a whole number of at least 2, since training "
        "compares two adjacent noise levels; raise it (s0 >= 1 in a curriculum).",
    )
    lo, hi = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (lo + np.arange(num_scales) / (num_scales - 1) * (hi - lo)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    return sigmas


def doubling_curriculum(total_steps: int, /, *, s0: int, s1: int) -> list[Stage]:
    """Return iCT's N(k): s0 doubles at equal intervals until it reaches s1.

    N(k) = min(s0 2^floor(k/K'), s1) + 1,  K' = floor(K / (log2 floor(s1/s0) + 1))

    Raises:
      ArgumentError: s0 < 1, s1 < s0, or fewer steps than stages.

    Source: iCT, Table 1.

    >>> [stage.num_scales for stage in doubling_curriculum(400_000, s0=10, s1=1280)]
    [11, 21, 41, 81, 161, 321, 641, 1281]
    """
    _check_scales(s0, s1, advice="; the paper has 10 and 1280")
    # K' in exact integers: the largest q with (2 floor(s1/s0))^q <= 2^K. The float is a guess.
    base = 2 * (s1 // s0)
    stage_steps = int(total_steps / math.log2(base))
    while base ** (stage_steps + 1) <= 2**total_steps:
        stage_steps += 1
    while base**stage_steps > 2**total_steps:
        stage_steps -= 1
    count = (-(-s1 // s0) - 1).bit_length() + 1  # stages until s0 2^j >= s1
    require(
        stage_steps >= 1,
        f"total_steps={total_steps} is fewer than the {count} stages of s0={s0}, s1={s1}; "
        "train longer, raise s0 or lower s1.",
    )
    return [Stage(j * stage_steps, min(s0 * 2**j, s1) + 1) for j in range(count)]


def sqrt_curriculum(total_steps: int, /, *, s0: int, s1: int) -> list[Stage]:
    """Return CM's N(k), from s0 to s1 + 1, for 2 <= s0 <= s1.

    N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1

    Source: CM, Section 5 and Appendix C.

    >>> [stage.num_scales for stage in sqrt_curriculum(800_000, s0=2, s1=150)][-3:]
    [149, 150, 151]
    """
    _check_scales(s0, s1, least=2)
    # In exact integers: N(k) >= m + 1 if and only if k ((s1 + 1)^2 - s0^2) > K (m^2 - s0^2).
    squares = (s1 + 1) ** 2 - s0**2
    first = [0] + [total_steps * (m**2 - s0**2) // squares + 1 for m in range(s0, s1 + 1)]
    return _distinct(first, range(s0, s1 + 2))


def linear_curriculum(total_steps: int, /, *, s0: int, s1: int) -> list[Stage]:
    """Return N(k) = s0 + floor(k/K (s1 - s0 + 1)) + 1: N - 1 grows linearly from s0 >= 1 to s1.

    Source: one of the curricula that iCT compares; this form is ours.
    """
    _check_scales(s0, s1)
    count = s1 - s0 + 1
    return _distinct([-(-total_steps * j // count) for j in range(count)], range(s0 + 1, s1 + 2))


def constant_curriculum(total_steps: int, /, *, s0: int, s1: int) -> list[Stage]:
    """Return N = s1 + 1 at every step; s0 is not used."""
    _check_scales(s0, s1)
    return [Stage(0, s1 + 1)]


def _check_scales(s0: int, s1: int, least: int = 1, advice: str = "") -> None:
    require(
        isinstance(s0, Integral) and isinstance(s1, Integral) and least <= s0 <= s1,
        f"s0={s0} and s1={s1} must be whole and satisfy {least} <= s0 <= s1{advice}.",
    )


def _distinct(first_steps: Sequence[int], num_scales: Sequence[int]) -> list[Stage]:
    """Return stages of at least one step: of those that begin at the same step, the last."""
    return [Stage(step, n) for step, n in dict(zip(first_steps, num_scales, strict=True)).items()]


def lognormal_law(*, p_mean: float = -1.1, p_std: float = 2.0) -> NoiseLaw:
    """Return iCT's distribution over bins: log sigma is normal, integrated over each bin.

    p(i) ~ erf((log sigma_{i+1} - P_mean) / (sqrt(2) P_std))
           - erf((log sigma_i - P_mean) / (sqrt(2) P_std))

    Source: iCT, Table 1 (`p_mean` = -1.1 in natural-log units, `p_std` = 2).
    """
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 2.")

    def law(sigmas: np.ndarray) -> np.ndarray:
        z = (np.log(sigmas) - p_mean) / (math.sqrt(2) * p_std)
        # In the upper tail the difference of erfc keeps the digits that erf loses.
        erf = np.array([math.erf(v) for v in z])
        erfc = np.array([math.erfc(v) for v in z])
        return np.where(z[:-1] > 0, erfc[:-1] - erfc[1:], erf[1:] - erf[:-1])

    return law


def uniform_law(sigmas: np.ndarray, /) -> np.ndarray:
    """Weight every adjacent pair equally. Source: Song et al. 2023 (CM), Algorithm 3."""
    return np.ones(len(sigmas) - 1)
