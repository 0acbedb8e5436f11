"""Easy consistency tuning (ECT) as in *Consistency Models Made Easy* (Geng et al., 2024)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, add_noise, compare, inverse_gap, pseudo_huber
from ict_jax.core.objectives.base import Draws, Objective, draw_noise
from ict_jax.core.precondition import append_dims
from ict_jax.core.typing import ConsistencyFn, Data, PerExample, PRNGKey, Sigmas, Step, Weighting

SMALLEST_SIGMA = 1e-6
"""Lowest level at which the network is evaluated; below it, f(x) is x."""


def ect_objective(
    *,
    q: float = 2.0,
    stage_steps: int,
    first_exponent: int = 1,
    k: float = 8.0,
    b: float = 1.0,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    huber_c: float = 1e-8,
    weight: Weighting = inverse_gap,
) -> Objective:
    """Return ECT: the lower level r approaches t stage by stage; r = 0 trains a diffusion model.

    r(t) = max(0, t (1 - n(t) / q^a)),  n(t) = 1 + k / (1 + exp(b t)),  log t ~ N(p_mean, p_std^2)
    loss = weight(r, t) (sqrt(||f(x_t, t) - f(x_r, r)||^2 + c^2) - c)

    The gradient is that of the paper's squared distance with its adaptive weight
    1 / sqrt(||.||^2 + c^2). f is wrapped by `as_denoiser`, whose boundary is at 0, and usually
    starts from a trained diffusion model.

    Args:
      q: factor by which the gap shrinks from stage to stage.
      stage_steps: d, steps of a stage; a = first_exponent + floor(step / d).
      first_exponent: 0 in the paper's text, where the first stage trains a diffusion model; 1
        skips it, as the authors advise for tuning and do in their code.
      k: n(t) at small t is 1 + k/2.
      b: rate at which n falls to 1.
      p_mean: mean of log t, natural.
      p_std: standard deviation of log t.
      huber_c: c.
      weight: weight of each example, by r and t.

    Raises:
      ArgumentError: a value is out of range.

    Source: ECT, Sections 3.2 and 3.3, as restated by others.
    """
    require(q > 1, f"q={q} must be above 1; the paper has 2 for CIFAR-10.")
    require(stage_steps >= 1, f"stage_steps={stage_steps} must be at least 1.")
    require(first_exponent in (0, 1), f"first_exponent={first_exponent} must be 0 or 1.")
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 2.")
    require(huber_c > 0, f"huber_c={huber_c} must be positive; for the paper's 0 use 1e-8.")
    metric = functools.partial(pseudo_huber, c=huber_c)

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> Draws:
        noise, sigma = draw_noise(key, shape, p_mean, p_std)
        exponent = first_exponent + jnp.asarray(step) // stage_steps
        sigma_lo = lower_level(sigma, q ** exponent.astype(jnp.float32), k=k, b=b)
        return Draws(noise, sigma_lo, sigma)

    def loss(f: ConsistencyFn, x: Data, draws: Draws) -> tuple[PerExample, Aux]:
        noise, sigma_lo, sigma_hi = draws
        # At r = 0 the target is x, and c_noise = log(r) / 4 infinite: call f at a safe level.
        level = jnp.maximum(sigma_lo, SMALLEST_SIGMA)
        is_evaluated = append_dims(sigma_lo > SMALLEST_SIGMA, x)
        target = jnp.where(is_evaluated, f(add_noise(x, noise, level), level), x)
        prediction = f(add_noise(x, noise, sigma_hi), sigma_hi)
        return compare(prediction, target, sigma_lo, sigma_hi, metric=metric, weight=weight)

    return Objective(draw, loss)


def lower_level(
    sigma: Sigmas, q_power: float | Float[Array, ""], *, k: float = 8.0, b: float = 1.0
) -> Sigmas:
    """Compute r(t) = max(0, t (1 - n(t) / q^a)), n(t) = 1 + k / (1 + exp(b t)), at t = sigma.

    Source: ECT, Section 3.2.
    """
    n = 1 + k * jax.nn.sigmoid(-b * sigma)
    return sigma * jnp.maximum(1 - n / q_power, 0)
