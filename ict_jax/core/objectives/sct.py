"""Continuous-time consistency training and distillation (sCT, sCD), as in sCM."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core import randomness
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, squared_distance
from ict_jax.core.objectives.base import Objective, draw_sigmas
from ict_jax.core.precondition import per_example
from ict_jax.core.typing import ConsistencyFn, Data, Network, PerExample, PRNGKey, Sigmas, Step

FEATURES = 128
"""Random features of the learned weight."""

OwnParams = dict[str, Float[Array, "..."]]


class TrigDraws(NamedTuple):
    """What a step draws; `warm_up` is r, the share of the tangent's unstable part."""

    noise: Data
    sigma: Sigmas
    warm_up: PerExample


def sct_objective(
    *,
    sigma_data: float = 0.5,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    tangent_c: float = 0.1,
    warm_up_steps: int = 10_000,
) -> Objective:
    """sCT: the network's change along t is the tangent of the true consistency function.

    With x_t = cos(t) x + sin(t) z, z ~ N(0, sd^2 I), t = arctan(sigma / sd), log sigma ~ N(p_mean,
    p_std^2), F the network at (x_t / sd, t), F^- the same without gradient, r from 0 to 1 over
    the warm-up:

    g = -cos^2(t) (sd F^- - dx_t/dt) - r cos(t) sin(t) (x_t + sd dF^-/dt)
    loss = exp(w(t)) / d ||F - F^- - g / (||g|| + c)||^2 - w(t),  dx_t/dt = cos(t) z - sin(t) x

    w is learned: a linear layer on random Fourier features of t, zero at first. (The paper says no
    more than that it is a network.) dF/dt is found by `jax.jvp`, at the cost of about one more
    forward pass. The paper starts from a trained diffusion model of the same scalings.

    Args:
      sigma_data: sd, the data's root mean square.
      p_mean: of log sigma, natural.
      p_std: of log sigma.
      tangent_c: c of the tangent's normalisation.
      warm_up_steps: H, of the tangent.

    Raises:
      ArgumentError: a number is out of its range.

    Source: sCM (Lu & Song, 2025), Eq. 8 and Algorithm 1.
    """
    return _trig_objective(sigma_data, p_mean, p_std, tangent_c, warm_up_steps, distil=False)


def scd_objective(
    *,
    sigma_data: float = 0.5,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    tangent_c: float = 0.1,
    warm_up_steps: int = 10_000,
) -> Objective:
    """sCD: as `sct_objective`, with dx_t/dt of a trained diffusion model.

    dx_t/dt = (cos(t) x_t - D(x_t / cos(t), sigma)) / sin(t)

    Source: sCM (Lu & Song, 2025), Algorithm 1.
    """
    return _trig_objective(sigma_data, p_mean, p_std, tangent_c, warm_up_steps, distil=True)


def _trig_objective(
    sigma_data: float,
    p_mean: float,
    p_std: float,
    tangent_c: float,
    warm_up_steps: int,
    *,
    distil: bool,
) -> Objective:
    require(sigma_data > 0, f"sigma_data={sigma_data} must be positive; use the data's RMS.")
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 1.4 for CIFAR-10.")
    require(tangent_c > 0, f"tangent_c={tangent_c} must be positive; the paper has 0.1.")
    require(warm_up_steps >= 0, f"warm_up_steps={warm_up_steps} must not be negative.")

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> TrigDraws:
        key_sigma, key_noise = randomness.split(key)
        sigma = draw_sigmas(key_sigma, shape[:1], p_mean=p_mean, p_std=p_std)
        done = jnp.asarray(step, jnp.float32) if warm_up_steps else jnp.float32(1)
        warm_up = jnp.minimum(done / max(warm_up_steps, 1), 1.0)
        return TrigDraws(randomness.normal(key_noise, shape), sigma, jnp.full(shape[:1], warm_up))

    def loss(
        f: Network,
        x: Data,
        draws: TrigDraws,
        *,
        loss_params: OwnParams,
        denoiser: ConsistencyFn | None = None,
    ) -> tuple[PerExample, Aux]:
        network_output, tangent = trig_tangent(f, x, draws, denoiser, sigma_data=sigma_data)
        squared = jnp.sum(tangent**2, axis=tuple(range(1, x.ndim)))
        tangent = tangent / per_example(jnp.sqrt(squared) + tangent_c, x)
        target = jax.lax.stop_gradient(network_output + tangent)
        weight = learned_weight(loss_params, jnp.arctan(draws.sigma / sigma_data))
        size = x[0].size
        losses = jnp.exp(weight) / size * squared_distance(network_output, target) - weight
        aux = {
            "sigma_lo": draws.sigma,
            "sigma_hi": draws.sigma,
            "weight": jax.lax.stop_gradient(jnp.exp(weight) / size),
            "squared_distance": squared,
        }
        return losses, aux

    return Objective(draw, loss, has_denoiser=distil, of_network=True, init_loss_params=init_weight)


def trig_tangent(
    network: Network,
    x: Data,
    draws: TrigDraws,
    denoiser: ConsistencyFn | None = None,
    *,
    sigma_data: float,
) -> tuple[Data, Data]:
    """The network's output at (x_t / sd, t), and g, cos(t) df/dt, through which no gradient passes.

    Args:
      network: F(x_t / sd, t).
      x: clean data.
      draws: noise, levels and warm-up.
      denoiser: of the diffusion model whose ODE is followed; default: that of this pair.
      sigma_data: sd.

    Source: sCM, Algorithm 1 and Section 5.1 (rearranged JVP).
    """
    scale = 1 / jnp.sqrt(draws.sigma**2 + sigma_data**2)
    cos, sin = per_example(sigma_data * scale, x), per_example(draws.sigma * scale, x)
    z, t = sigma_data * draws.noise, jnp.arctan(draws.sigma / sigma_data)
    x_t = cos * x + sin * z
    if denoiser is None:
        slope = cos * z - sin * x
    else:
        slope = (cos * x_t - denoiser(x_t / cos, draws.sigma)) / sin
    slope = jax.lax.stop_gradient(slope)
    output, derivative = jax.jvp(
        network,
        (x_t / sigma_data, t),
        (cos * sin * slope, draws.sigma * (sigma_data * scale) ** 2),
    )
    output = output.astype(x.dtype)
    fixed, derivative = jax.lax.stop_gradient((output, derivative.astype(x.dtype)))
    warm_up = per_example(draws.warm_up, x)
    tangent = -(cos**2) * (sigma_data * fixed - slope) - warm_up * (cos * sin * x_t + derivative)
    return output, tangent


def init_weight(key: PRNGKey) -> OwnParams:
    """Parameters of w(t): fixed frequencies and phases, and a linear layer of zeros."""
    key_frequencies, key_phases = randomness.split(key)
    return {
        "frequencies": randomness.normal(key_frequencies, (FEATURES,)),
        "phases": randomness.uniform(key_phases, (FEATURES,)),
        "kernel": jnp.zeros(FEATURES, jnp.float32),
    }


def learned_weight(loss_params: OwnParams, t: Sigmas) -> PerExample:
    """w(t) = sum_j kernel_j sqrt(2) cos(2 pi (frequency_j t + phase_j)).

    Source: the uncertainty network of EDM2 (Karras et al., 2024), as sCM takes up.
    """
    frequencies, phases = jax.lax.stop_gradient((loss_params["frequencies"], loss_params["phases"]))
    angles = jnp.outer(t, frequencies) + phases[None]
    return jnp.sqrt(2) * jnp.cos(2 * jnp.pi * angles) @ loss_params["kernel"]
