"""Continuous-time consistency training and distillation (sCT, sCD), as in sCM."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core import randomness
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, squared_distance
from ict_jax.core.objectives.base import Objective, draw_noise
from ict_jax.core.precondition import append_dims
from ict_jax.core.typing import ConsistencyFn, Data, Network, PerExample, PRNGKey, Sigmas, Step

FEATURES = 128
"""Number of random features of the learned weight."""

LossParams = dict[str, Float[Array, "..."]]


class TrigDraws(NamedTuple):
    """Random draws of a step, and r, the warm-up factor of the tangent's unstable terms."""

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
    """Return sCT: the network's change along t is the tangent of the true consistency function.

    With x_t = cos(t) x + sin(t) z, z ~ N(0, sd^2 I), t = arctan(sigma / sd), log sigma ~ N(p_mean,
    p_std^2), F the network at (x_t / sd, t), F^- the same without gradient, r from 0 to 1 over
    the warm-up:

    g = -cos^2(t) (sd F^- - dx_t/dt) - r cos(t) sin(t) (x_t + sd dF^-/dt)
    loss = exp(w(t)) / d ||F - F^- - g / (||g|| + c)||^2 - w(t),  dx_t/dt = cos(t) z - sin(t) x

    w is learned: a linear layer on random Fourier features of t, initially zero. (The paper says
    only that it is a network.) dF/dt is computed by `jax.jvp`, at the cost of about one more
    forward pass. The paper starts from a trained diffusion model of the same scalings.

    Args:
      sigma_data: sd, the data's root mean square.
      p_mean: mean of log sigma, natural.
      p_std: standard deviation of log sigma.
      tangent_c: c of the tangent's normalisation.
      warm_up_steps: H, steps of the tangent's warm-up.

    Raises:
      ArgumentError: a value is out of range.

    Source: sCM (Lu & Song, 2025), Eq. 8 and Algorithm 1.
    """
    require(sigma_data > 0, f"sigma_data={sigma_data} must be positive; use the data's RMS.")
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 1.4 for CIFAR-10.")
    require(tangent_c > 0, f"tangent_c={tangent_c} must be positive; the paper has 0.1.")
    require(warm_up_steps >= 0, f"warm_up_steps={warm_up_steps} must not be negative.")

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> TrigDraws:
        noise, sigma = draw_noise(key, shape, p_mean, p_std)
        # r = min(1, k / H), and 1 without a warm-up.
        done = jnp.asarray(step, jnp.float32) if warm_up_steps else jnp.float32(1)
        warm_up = jnp.minimum(done / max(warm_up_steps, 1), 1.0)
        return TrigDraws(noise, sigma, jnp.full(shape[:1], warm_up))

    def loss(
        f: Network,
        x: Data,
        draws: TrigDraws,
        *,
        loss_params: LossParams,
        denoiser: ConsistencyFn | None = None,
    ) -> tuple[PerExample, Aux]:
        network_output, tangent = trig_tangent(f, x, draws, denoiser, sigma_data=sigma_data)
        # Normalised tangent g / (||g|| + c), the norm over a whole example.
        squared = jnp.sum(tangent**2, axis=tuple(range(1, x.ndim)))
        tangent = tangent / append_dims(jnp.sqrt(squared) + tangent_c, x)
        # Target F^- + g: as F = F^-, the squared distance is ||g||^2 and its gradient -2 g dF.
        target = jax.lax.stop_gradient(network_output + tangent)
        # Adaptive weight: exp(w) / d ||.||^2 - w is least where all t contribute equally.
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

    return Objective(draw, loss, of_network=True, init_loss_params=init_weight)


def scd_objective(
    *,
    sigma_data: float = 0.5,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    tangent_c: float = 0.1,
    warm_up_steps: int = 10_000,
) -> Objective:
    """Return sCD: `sct_objective` with dx_t/dt of a trained diffusion model.

    dx_t/dt = (cos(t) x_t - D(x_t / cos(t), sigma)) / sin(t)

    Source: sCM (Lu & Song, 2025), Algorithm 1.
    """
    return sct_objective(
        sigma_data=sigma_data,
        p_mean=p_mean,
        p_std=p_std,
        tangent_c=tangent_c,
        warm_up_steps=warm_up_steps,
    )._replace(has_denoiser=True)


def trig_tangent(
    network: Network,
    x: Data,
    draws: TrigDraws,
    denoiser: ConsistencyFn | None = None,
    *,
    sigma_data: float,
) -> tuple[Data, Data]:
    """Compute the network's output at (x_t / sd, t), and g = cos(t) df/dt without gradient.

    The denoiser is that of the diffusion model whose ODE gives dx_t/dt; default: x and its noise.

    Source: sCM, Algorithm 1 and Section 5.1 (rearranged JVP).
    """
    # cos(t) = sd / sqrt(sigma^2 + sd^2), sin(t) = sigma / sqrt(sigma^2 + sd^2).
    scale = 1 / jnp.sqrt(draws.sigma**2 + sigma_data**2)
    cos, sin = append_dims(sigma_data * scale, x), append_dims(draws.sigma * scale, x)
    z, t = sigma_data * draws.noise, jnp.arctan(draws.sigma / sigma_data)
    x_t = cos * x + sin * z
    # dx_t/dt: of this pair of x and z (sCT), or of the diffusion model's ODE (sCD).
    if denoiser is None:
        slope = cos * z - sin * x
    else:
        slope = (cos * x_t - denoiser(x_t / cos, draws.sigma)) / sin
    slope = jax.lax.stop_gradient(slope)
    # cos sin sd dF/dt, the factor inside the JVP so that it does not overflow: the tangents are
    # cos sin dx_t/dt for x_t / sd, and cos sin sd = sigma cos^2 for t.
    output, derivative = jax.jvp(
        network,
        (x_t / sigma_data, t),
        (cos * sin * slope, draws.sigma * (sigma_data * scale) ** 2),
    )
    output = output.astype(x.dtype)
    fixed, derivative = jax.lax.stop_gradient((output, derivative.astype(x.dtype)))
    # g = -cos^2 (sd F^- - dx_t/dt) - r (cos sin x_t + cos sin sd dF^-/dt)
    warm_up = append_dims(draws.warm_up, x)
    tangent = -(cos**2) * (sigma_data * fixed - slope) - warm_up * (cos * sin * x_t + derivative)
    return output, tangent


def init_weight(key: PRNGKey) -> LossParams:
    """Initialise the parameters of w(t): fixed frequencies and phases, a linear layer of zeros."""
    key_frequencies, key_phases = randomness.split(key)
    return {
        "frequencies": randomness.normal(key_frequencies, (FEATURES,)),
        "phases": randomness.uniform(key_phases, (FEATURES,)),
        "kernel": jnp.zeros(FEATURES, jnp.float32),
    }


def learned_weight(loss_params: LossParams, t: Sigmas) -> PerExample:
    """Compute w(t) = sum_j kernel_j sqrt(2) cos(2 pi (frequency_j t + phase_j)).

    Source: the uncertainty network of EDM2 (Karras et al., 2024), adopted by sCM.
    """
    frequencies, phases = jax.lax.stop_gradient((loss_params["frequencies"], loss_params["phases"]))
    angles = jnp.outer(t, frequencies) + phases[None]
    return jnp.sqrt(2) * jnp.cos(2 * jnp.pi * angles) @ loss_params["kernel"]
