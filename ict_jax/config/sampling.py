"""Sampling from the model of a config."""

from collections.abc import Callable
from typing import Any

from ict_jax.config.network import build_bind, image_shape, num_classes
from ict_jax.config.sections import Config
from ict_jax.core.errors import require
from ict_jax.core.sampling import heun_sample, sample
from ict_jax.core.schedules import karras_sigmas
from ict_jax.core.typing import Data
from ict_jax.training.state import Params

DIFFUSION_STEPS = 40
"""Noise levels for diffusion models; CM has 40 on ImageNet 64x64, EDM 18 on CIFAR-10."""


def is_diffusion(config: Config) -> bool:
    """Return whether the network is a denoiser, sampled in many steps of an ODE solver."""
    return "edm" in (config.precondition.name, config.objective.name)


def build_draw(config: Config) -> Callable[[Params, Any, Any, Any], Data]:
    """Build `draw(params, keys, labels, sigmas)` -> images in [-1, 1], one per key."""
    bind, shape = build_bind(config), image_shape(config)

    def draw(params: Params, keys: Any, labels: Any, sigmas: Any) -> Data:
        f = bind(params, labels, None)
        if is_diffusion(config):
            return heun_sample(f, keys, shape, sigmas)
        return sample(f, keys, shape, sigmas, sigma_min=config.discretization.sigma_min)

    return draw


def karras_levels(config: Config, steps: int | None) -> tuple[float, ...]:
    """Return the descending noise levels of the Karras grid to sample at.

    By default a consistency model has 1 and a diffusion model `DIFFUSION_STEPS`. A consistency
    model is not called at the last level, sigma_min, where it is the identity.

    Raises:
      ArgumentError: steps < 1.
    """
    diffusion, disc = is_diffusion(config), config.discretization
    steps = steps if steps is not None else DIFFUSION_STEPS if diffusion else 1
    require(steps >= 1, f"--steps={steps} must be at least 1.")
    if diffusion and steps == 1:
        return (disc.sigma_max,)
    levels = {key: disc[key] for key in ("sigma_min", "sigma_max", "rho")}
    sigmas = karras_sigmas(steps if diffusion else steps + 1, **levels)
    return tuple(float(sigma) for sigma in sigmas[::-1][:steps])


def sampler_arguments(config: Config) -> dict[str, Any]:
    """Return the arguments of `Sampler` that the config determines."""
    low, high = sigma_range(config)
    return {"sigma_min": low, "sigma_max": high, "num_classes": num_classes(config)}


def sigma_range(config: Config) -> tuple[float, float]:
    """Return the smallest and the largest noise level of the model."""
    return config.discretization.sigma_min, config.discretization.sigma_max


def default_second_sigma(config: Config) -> float:
    """Return the second noise level of two-step samples."""
    return config.sampling.second_sigma


def grid_images(config: Config) -> int:
    """Return the number of images in a grid of samples."""
    return config.sampling.get("num_images", 64)


def diffusion_sigmas(config: Config) -> tuple[float, ...] | None:
    """Return the noise levels of a diffusion model's samples, None for a consistency model."""
    return karras_levels(config, None) if is_diffusion(config) else None
