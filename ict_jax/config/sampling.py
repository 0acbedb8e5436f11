"""From a config to how images are drawn from its model."""

from collections.abc import Callable
from typing import Any

from ict_jax.config.network import build_bind, num_classes
from ict_jax.config.sections import Config
from ict_jax.core.errors import require
from ict_jax.core.sampling import heun_sample, sample
from ict_jax.core.schedules import karras_sigmas
from ict_jax.core.typing import Data
from ict_jax.training.state import Params

DIFFUSION_STEPS = 40
"""Levels at which diffusion models are sampled; CM has 40 on ImageNet 64x64, EDM 18 on CIFAR-10."""


def is_diffusion(config: Config) -> bool:
    """Whether the network is a denoiser, sampled from by many steps of an ODE solver."""
    return "edm" in (config.precondition.name, config.objective.name)


def build_draw(config: Config) -> Callable[[Params, Any, Any, Any], Data]:
    """`draw(params, keys, labels, sigmas)` -> images in [-1, 1], one per key."""
    bind, shape = build_bind(config), tuple(config.image_shape)

    def draw(params: Params, keys: Any, labels: Any, sigmas: Any) -> Data:
        f = bind(params, labels, None)
        if is_diffusion(config):
            return heun_sample(f, keys, shape, sigmas)
        return sample(f, keys, shape, sigmas, sigma_min=config.discretization.sigma_min)

    return draw


def karras_levels(config: Config, steps: int | None) -> tuple[float, ...]:
    """So many descending noise levels to sample at, from the Karras grid.

    A consistency model is not called at the last level, sigma_min, where it is the identity.

    Args:
      config: resolved.
      steps: default: 1 for a consistency model, `DIFFUSION_STEPS` for a diffusion model.

    Raises:
      ArgumentError: steps < 1.
    """
    diffusion, disc = is_diffusion(config), config.discretization
    steps = steps if steps is not None else DIFFUSION_STEPS if diffusion else 1
    require(steps >= 1, f"--steps={steps} must be at least 1.")
    if diffusion and steps == 1:
        return (disc.sigma_max,)
    sigmas = karras_sigmas(
        steps if diffusion else steps + 1,
        sigma_min=disc.sigma_min,
        sigma_max=disc.sigma_max,
        rho=disc.rho,
    )
    return tuple(float(sigma) for sigma in sigmas[::-1][:steps])


def sampler_arguments(config: Config) -> dict[str, Any]:
    """What drawing needs to know of a config, by the names that `Sampler` takes."""
    return {
        "sigma_min": config.discretization.sigma_min,
        "sigma_max": config.discretization.sigma_max,
        "num_classes": num_classes(config),
    }


def sigma_range(config: Config) -> tuple[float, float]:
    """The smallest and the largest noise level of the model."""
    return config.discretization.sigma_min, config.discretization.sigma_max


def default_second_sigma(config: Config) -> float:
    """The second noise level of two-step samples."""
    return config.sampling.second_sigma


def grid_images(config: Config) -> int:
    """Images in a grid of samples."""
    return config.sampling.get("num_images", 64)


def sampling_arguments(config: Config) -> dict[str, Any]:
    """The section `sampling`, and the levels of a diffusion model, as `SampleGrids` takes them."""
    levels = karras_levels(config, None) if is_diffusion(config) else None
    return {**config.sampling, "diffusion_sigmas": levels}
