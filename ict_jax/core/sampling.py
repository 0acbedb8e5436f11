"""Sampling with noise per seed: one step, multistep, and Heun's method for diffusion models."""

import itertools
from collections.abc import Sequence

import jax
import jax.core as core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from ict_jax.core import randomness
from ict_jax.core.errors import require
from ict_jax.core.precondition import append_dims
from ict_jax.core.typing import ConsistencyFn, Data, Sigmas


def seed_keys(seeds: Integer[Array, " b"] | Sequence[int]) -> Key[Array, " b"]:
    """Return one random key per seed: the same seed gives the same image in any batch.

    Raises:
      ArgumentError: a seed is not a whole number from 0 to 2^32 - 1.
    """
    if not isinstance(seeds, core.Tracer):
        check_seeds(seeds)
        seeds = jnp.asarray(np.asarray(seeds).astype(np.uint32))
    return jax.vmap(randomness.seed_key)(seeds)


def check_seeds(seeds: Integer[Array, " b"] | Sequence[int]) -> None:
    """Raise `ArgumentError` unless seeds are whole numbers from 0 to 2^32 - 1."""
    values = np.asarray(seeds)
    require(
        values.ndim == 1
        and np.issubdtype(values.dtype, np.integer)
        and bool((values >= 0).all() and (values < 2**32).all()),
        f"seeds={seeds} must be a list of whole numbers from 0 to 2^32 - 1; use range(64), "
        "for instance.",
    )


def check_sigmas(sigmas: Sequence[float] | np.ndarray, sigma_min: float) -> None:
    """Raise `ArgumentError` unless sigmas are descending levels of at least sigma_min."""
    require(
        np.ndim(sigmas) == 1 and sigma_min > 0,
        f"sigmas={sigmas} must be a list and sigma_min={sigma_min} positive; use (80.0,) and 0.002 "
        "for one step.",
    )
    values = [float(sigma) for sigma in sigmas]
    require(
        len(values) > 0,
        "sigmas is empty, expected at least one noise level; use (80.0,) for one step.",
    )
    require(
        all(a > b for a, b in itertools.pairwise(values)),
        f"sigmas={values} must descend strictly; sort them from large to small.",
    )
    require(
        bool(np.isfinite(values[0])) and values[-1] >= sigma_min,
        f"sigmas={values} must be finite and at least sigma_min={sigma_min}; leave out the "
        "smaller ones.",
    )


def sample(
    f: ConsistencyFn,
    keys: Key[Array, " b"],
    shape: tuple[int, ...],
    sigmas: Sequence[float] | Float[Array, " steps"] = (80.0,),
    *,
    sigma_min: float = 0.002,
    clip: bool = True,
) -> Data:
    """Draw one example per key, [b, *shape], with one call of `f` per sigma (multistep sampling).

    x = f(sigma_1 z_0, sigma_1); then for each further sigma:
    x = f(x + sqrt(sigma^2 - sigma_min^2) z, sigma)

    Args:
      f: consistency function, bound to EMA parameters, without dropout.
      keys: one key per example (`seed_keys`), so an example does not depend on its batch.
      shape: shape of one example, (h, w, c) for images.
      sigmas: descending noise levels, the first the model's sigma_max; not checked if traced.
      sigma_min: level at which f is the identity.
      clip: clip every output of f to [-1, 1], as the CM authors do before adding noise again.

    Raises:
      ArgumentError: sigmas is empty, not descending, not finite or below sigma_min; keys is
        not an array of one key per example.

    Source: CM, Algorithm 1.
    """
    levels = _check_levels(keys, sigmas, sigma_min)

    def denoise(x: Data, sigma: Float[Array, ""]) -> Data:
        x = f(x, jnp.full(len(keys), sigma))
        return clip_samples(x) if clip else x

    x = denoise(levels[0] * _noise(keys, shape, 0), levels[0])
    for index in range(1, len(levels)):
        # sigma^2 - sigma_min^2 as a product, which is exactly zero at sigma_min.
        spread = jnp.sqrt((levels[index] - sigma_min) * (levels[index] + sigma_min))
        x = denoise(x + spread * _noise(keys, shape, index), levels[index])
    return x


def heun_sample(
    denoiser: ConsistencyFn,
    keys: Key[Array, " b"],
    shape: tuple[int, ...],
    sigmas: Sequence[float] | np.ndarray | Float[Array, " steps"],
    *,
    clip: bool = True,
) -> Data:
    """Draw one example per key, [b, *shape], by solving a diffusion model's probability-flow ODE.

    dx/dsigma = (x - D(x, sigma)) / sigma, from sigmas[0] down to 0 with Heun's method; the last
    step, to 0, is Euler's. The denoiser is called 2 n - 1 times for n levels.

    Args:
      denoiser: D, bound to EMA parameters, without dropout (`as_denoiser`).
      keys: one key per example (`seed_keys`); the starting noise is that of `sample`.
      shape: shape of one example, (h, w, c) for images.
      sigmas: descending positive levels, such as `karras_sigmas(18)[::-1]`; not checked if traced.
      clip: clip the samples to [-1, 1].

    Errors as in `sample`, but sigmas need only be positive. Source: EDM, Algorithm 1.
    """
    levels = _check_levels(keys, sigmas, float(np.finfo(np.float32).tiny))

    def step(x: Data, pair: tuple[Array, Array]) -> tuple[Data, None]:
        sigma, sigma_next = (jnp.full(len(keys), level) for level in pair)
        return heun_step(denoiser, x, sigma, sigma_next), None

    x, _ = jax.lax.scan(step, levels[0] * _noise(keys, shape, 0), (levels[:-1], levels[1:]))
    # Euler's step to 0: x - sigma dx/dsigma = D(x, sigma).
    x = denoiser(x, jnp.full(len(keys), levels[-1]))
    return clip_samples(x) if clip else x


def clip_samples(x: Data) -> Data:
    """Clip x to [-1, 1]; infinite values become NaN, so that divergence cannot pass as an image."""
    return jnp.where(jnp.isinf(x), jnp.nan, jnp.clip(x, -1, 1))


def heun_step(denoiser: ConsistencyFn, x: Data, sigma: Sigmas, sigma_next: Sigmas) -> Data:
    """Take a step of Heun's method from sigma to sigma_next > 0. Source: EDM, Algorithm 1."""

    def slope(x: Data, sigma: Sigmas) -> Data:
        return (x - denoiser(x, sigma)) / append_dims(sigma, x)

    # Euler's prediction, then the mean of the slopes at both ends (trapezoidal rule).
    change = append_dims(sigma_next - sigma, x)
    first = slope(x, sigma)
    second = slope(x + change * first, sigma_next)
    return x + change * (first + second) / 2


def _check_levels(
    keys: Key[Array, " b"],
    sigmas: Sequence[float] | np.ndarray | Float[Array, " steps"],
    sigma_min: float,
) -> Float[Array, " steps"]:
    """Check keys and, unless traced, sigmas; return sigmas as float32."""
    require(
        jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.ndim == 1,
        f"keys has shape {keys.shape} and dtype {keys.dtype}, expected a vector of typed "
        "random keys; make them with seed_keys(seeds).",
    )
    if not isinstance(sigmas, core.Tracer):
        check_sigmas(np.asarray(sigmas), sigma_min)
    return jnp.asarray(sigmas, jnp.float32)


def _noise(keys: Key[Array, " b"], shape: tuple[int, ...], index: int) -> Data:
    """Draw standard normal noise [b, *shape], the index-th of each key."""
    return jax.vmap(lambda key: randomness.normal(jax.random.fold_in(key, index), shape))(keys)
