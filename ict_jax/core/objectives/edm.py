"""Denoising objective of a diffusion model, as in EDM (Karras et al., 2022)."""

from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, add_noise, compare, squared_distance
from ict_jax.core.objectives.base import Draws, Objective, draw_noise
from ict_jax.core.typing import ConsistencyFn, Data, PerExample, PRNGKey, Sigmas, Step


def edm_objective(
    *, sigma_data: float = 0.5, p_mean: float = -1.2, p_std: float = 1.2
) -> Objective:
    """Return the denoising loss lambda(sigma) ||D(x + sigma n, sigma) - x||^2, log sigma normal.

    lambda(sigma) = (sigma^2 + sd^2) / (sigma sd)^2, which gives every level the same weight at
    the start of training. D is wrapped by `as_denoiser` and sampled with `heun_sample`.

    Args:
      sigma_data: sd, the data's root mean square.
      p_mean: mean of log sigma, natural.
      p_std: standard deviation of log sigma.

    Raises:
      ArgumentError: sigma_data or p_std is not positive.

    Source: EDM, Eq. 8 and Table 1.
    """
    require(sigma_data > 0, f"sigma_data={sigma_data} must be positive; use the data's RMS.")
    require(p_std > 0, f"p_std={p_std} must be positive; the paper has 1.2.")

    def weight(_: Sigmas, sigma: Sigmas) -> PerExample:
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    def loss(f: ConsistencyFn, x: Data, draws: Draws) -> tuple[PerExample, Aux]:
        noise, _, sigma = draws
        denoised = f(add_noise(x, noise, sigma), sigma)
        return compare(denoised, x, sigma, sigma, metric=squared_distance, weight=weight)

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> Draws:
        noise, sigma = draw_noise(key, shape, p_mean, p_std)
        return Draws(noise, sigma, sigma)

    return Objective(draw, loss)
