"""The denoising objective of a diffusion model, as in EDM (Karras et al., 2022)."""

import jax

from ict_jax.core import randomness
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, noisy, squared_distance
from ict_jax.core.objectives.base import Draws, Objective, draw_sigmas
from ict_jax.core.typing import ConsistencyFn, Data, PerExample, PRNGKey, Step


def edm_objective(
    *, sigma_data: float = 0.5, p_mean: float = -1.2, p_std: float = 1.2
) -> Objective:
    """Denoising: lambda(sigma) ||D(x + sigma n, sigma) - x||^2, log sigma normal.

    lambda(sigma) = (sigma^2 + sd^2) / (sigma sd)^2, which gives every level the same weight at
    the start of training. D is wrapped by `as_denoiser` and sampled from by `heun_sample`.

    Args:
      sigma_data: sd, the data's root mean square.
      p_mean: of log sigma, natural.
      p_std: of log sigma.

    Raises:
      ArgumentError: sigma_data or p_std is not positive.

    Source: EDM, Eq. 8 and Table 1.
    """
    require(sigma_data > 0, f"sigma_data={sigma_data} must be positive; use the data's RMS.")
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 1.2.")

    def loss(f: ConsistencyFn, x: Data, draws: Draws) -> tuple[PerExample, Aux]:
        sigma = draws.sigma_hi
        squared = squared_distance(f(noisy(x, draws.noise, sigma), sigma), x)
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        aux = {
            "sigma_lo": sigma,
            "sigma_hi": sigma,
            "weight": weight,
            "squared_distance": jax.lax.stop_gradient(squared),
        }
        return weight * squared, aux

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> Draws:
        key_sigma, key_noise = randomness.split(key)
        sigma = draw_sigmas(key_sigma, shape[:1], p_mean=p_mean, p_std=p_std)
        return Draws(randomness.normal(key_noise, shape), sigma, sigma)

    return Objective(draw, loss)
