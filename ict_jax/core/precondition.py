"""Preconditioning: from a raw network F to f with an exact boundary f(x, sigma_min) = x."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ict_jax.core.errors import require
from ict_jax.core.typing import ConsistencyFn, Data, Network, Sigmas


class Scalings(NamedTuple):
    """Four scalings at each sigma, all of sigma's shape."""

    c_skip: Float[Array, "*s"]
    c_out: Float[Array, "*s"]
    c_in: Float[Array, "*s"]
    c_noise: Float[Array, "*s"]


def boundary_scalings(
    sigma: Float[Array, "*s"], *, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> Scalings:
    """Compute the scalings of a consistency model, exact at the boundary sigma = sigma_min.

    c_skip = sd^2 / ((sigma - sigma_min)^2 + sd^2),  c_in = 1 / sqrt(sigma^2 + sd^2)
    c_out = sd (sigma - sigma_min) / sqrt(sigma^2 + sd^2),  c_noise = log(sigma) / 4

    Args:
      sigma: noise standard deviations.
      sigma_data: sd, the data's root mean square; 0.5 for CIFAR-10 and ImageNet in [-1, 1].
      sigma_min: level at which c_skip = 1 and c_out = 0 exactly.

    Raises:
      ArgumentError: sigma_data or sigma_min is not positive.

    Source: CM, Appendix C; c_in and c_noise from EDM, Table 1, as in the CM authors' code.
    """
    require(sigma_min > 0, f"sigma_min={sigma_min} must be positive; the paper has 0.002.")
    return _scalings(sigma, sigma_data, sigma_min)


def _scalings(sigma: Float[Array, "*s"], sigma_data: float, sigma_min: float) -> Scalings:
    require(sigma_data > 0, f"sigma_data={sigma_data} must be positive; use the data's RMS.")
    variance = sigma**2 + sigma_data**2
    return Scalings(
        # The shift by sigma_min makes c_skip = 1 and c_out = 0 exact at the boundary.
        c_skip=sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2),
        c_out=sigma_data * (sigma - sigma_min) / jnp.sqrt(variance),
        c_in=1 / jnp.sqrt(variance),
        c_noise=0.25 * jnp.log(sigma),
    )


def edm_scalings(sigma: Float[Array, "*s"], *, sigma_data: float = 0.5) -> Scalings:
    """Compute the scalings of a diffusion model, `boundary_scalings` with sigma_min = 0.

    c_skip = sd^2 / (sigma^2 + sd^2),  c_out = sd sigma / sqrt(sigma^2 + sd^2)
    c_in = 1 / sqrt(sigma^2 + sd^2),  c_noise = log(sigma) / 4

    Errors as in `boundary_scalings`. Source: EDM (Karras et al., 2022), Table 1.
    """
    return _scalings(sigma, sigma_data, 0.0)


def trigflow_scalings(sigma: Float[Array, "*s"], *, sigma_data: float = 0.5) -> Scalings:
    """Compute the scalings of TrigFlow, for x with noise of level sigma as everywhere here.

    c_skip = sd^2 / (sigma^2 + sd^2),  c_out = -sd sigma / sqrt(sigma^2 + sd^2)
    c_in = 1 / sqrt(sigma^2 + sd^2),  c_noise = t = arctan(sigma / sd)

    TrigFlow's own x_t = cos(t) x_0 + sin(t) z with z ~ N(0, sd^2) is cos(t) (x_0 + sigma n) with
    n ~ N(0, 1), and f(x_t, t) = cos(t) x_t - sin(t) sd F(x_t / sd, t).

    Errors as in `boundary_scalings`. Source: sCM (Lu & Song, 2025), Section 3.
    """
    return edm_scalings(sigma, sigma_data=sigma_data)._replace(
        c_out=-sigma_data * sigma / jnp.sqrt(sigma**2 + sigma_data**2),
        c_noise=jnp.arctan2(sigma, jnp.full_like(sigma, sigma_data)),
    )


def as_consistency_fn(
    network: Network, *, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> ConsistencyFn:
    """Wrap a raw network as f(x, sigma) = c_skip x + c_out F(c_in x, c_noise).

    The network may compute in any precision; only here is its output cast to x's (float32).

    Raises (when f is called):
      ArgumentError: x or sigma has a wrong rank or dtype, or F returns another shape than x.

    Source: CM, Eq. 5 and Appendix C.
    """
    scalings = functools.partial(boundary_scalings, sigma_data=sigma_data, sigma_min=sigma_min)
    return _wrap(network, scalings)


def as_denoiser(network: Network, *, sigma_data: float = 0.5) -> ConsistencyFn:
    """Wrap a raw network F(x, c_noise) as the denoiser D(x, sigma) of a diffusion model.

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), with `edm_scalings`. Sample from it with
    `heun_sample`. Errors as in `as_consistency_fn`. Source: EDM (Karras et al., 2022), Eq. 7.
    """
    return _wrap(network, functools.partial(edm_scalings, sigma_data=sigma_data))


def as_trigflow(network: Network, *, sigma_data: float = 0.5) -> ConsistencyFn:
    """Wrap a raw network F(x, t) as a consistency function with `trigflow_scalings`.

    Errors as in `as_consistency_fn`. Source: sCM (Lu & Song, 2025), Section 3.
    """
    return _wrap(network, functools.partial(trigflow_scalings, sigma_data=sigma_data))


def _wrap(network: Network, scalings_at: Callable[[Sigmas], Scalings]) -> ConsistencyFn:
    def f(x: Data, sigma: Sigmas) -> Data:
        check_data(x, sigma)
        scalings = scalings_at(sigma)
        c_skip, c_out, c_in = (append_dims(scaling, x) for scaling in scalings[:3])
        raw = network(c_in * x, scalings.c_noise)
        require(
            raw.shape == x.shape,
            f"the network returned shape {raw.shape} for input of shape {x.shape}; the two "
            "must be equal, so check its output layer.",
        )
        return c_skip * x + c_out * raw.astype(x.dtype)

    return f


def append_dims(values: Shaped[Array, " b"], x: Data) -> Shaped[Array, "b ..."]:
    """Reshape values [b] to [b, 1, ...], which broadcasts against x."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def check_data(x: Data, *sigmas: Sigmas) -> None:
    """Raise `ArgumentError` unless x is float [b, *dims] and each sigma is float [b]."""
    require(
        jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits >= 32,
        f"x has dtype {x.dtype}, expected float32; for uint8 images use x / 127.5 - 1, and "
        "leave lower precision to the network.",
    )
    require(
        x.ndim >= 2,
        f"x has shape {x.shape}, expected a batch axis and at least one more; for a single "
        "example use x[None].",
    )
    for sigma in sigmas:
        require(
            sigma.shape == x.shape[:1] and jnp.issubdtype(sigma.dtype, jnp.floating),
            f"sigma has shape {sigma.shape} and dtype {sigma.dtype}, expected one float per "
            f"example, shape {x.shape[:1]}; for one level use jnp.full(len(x), sigma).",
        )
