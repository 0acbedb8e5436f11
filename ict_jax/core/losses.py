"""Distances, weights and the consistency loss of a given pair of noise levels."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core.errors import require
from ict_jax.core.precondition import append_dims, check_data
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, Sigmas, Weighting

Aux = dict[str, Float[Array, " b"]]


def default_huber_c(num_dims: int) -> float:
    """Return c = 0.00054 sqrt(d), d the number of values in one example (iCT, Section 3.3).

    >>> round(default_huber_c(3 * 32 * 32), 5)
    0.02993
    """
    require(num_dims >= 1, f"num_dims={num_dims} must be at least 1; give h * w * c.")
    return 0.00054 * math.sqrt(num_dims)


def squared_distance(prediction: Data, target: Data, /) -> PerExample:
    """Compute ||prediction - target||^2 of each example, summed over all its values.

    Raises:
      ArgumentError: the two shapes differ; so do all distances here.
    """
    return jnp.sum(_difference(prediction, target) ** 2, axis=tuple(range(1, prediction.ndim)))


def _difference(prediction: Data, target: Data) -> Data:
    require(
        prediction.shape == target.shape,
        f"prediction has shape {prediction.shape} and target {target.shape}; they must be equal.",
    )
    return prediction - target


def pseudo_huber(prediction: Data, target: Data, /, *, c: float) -> PerExample:
    """Compute sqrt(||prediction - target||^2 + c^2) - c of each example.

    The norm is over a whole example. Taken per value, it would be a scaled squared distance at
    the small differences that occur.

    Raises:
      ArgumentError: c <= 0.

    Source: iCT, Section 3.3 and Table 1.
    """
    require(c > 0, f"huber_c={c} must be positive; the paper has 0.00054 * sqrt(d).")
    squared = squared_distance(prediction, target)
    # sqrt(s + c^2) - c = s / (sqrt(s + c^2) + c), without its cancellation at small s.
    return squared / (jnp.sqrt(squared + c**2) + c)


def mean_squared_distance(prediction: Data, target: Data, /) -> PerExample:
    """Compute ||prediction - target||^2 / d of each example, the mean over its d values.

    RAdam does not normalise its first five updates (at b2 = 0.999): with the sum in place of the
    mean, their learning rate is d times higher, and CT diverges on Fashion-MNIST.

    Source: CM, Section 5, the metric l2; the mean is that of the CM authors' code.
    """
    return jnp.mean(_difference(prediction, target) ** 2, axis=tuple(range(1, prediction.ndim)))


def mean_absolute_distance(prediction: Data, target: Data, /) -> PerExample:
    """Compute ||prediction - target||_1 / d of each example, the mean over its d values.

    Source: CM, Section 5, the metric l1; the mean is that of the CM authors' code.
    """
    return jnp.mean(jnp.abs(_difference(prediction, target)), axis=tuple(range(1, prediction.ndim)))


def unit_weight(sigma_lo: Sigmas, sigma_hi: Sigmas, /) -> PerExample:
    """Return lambda(sigma_i) = 1. Source: CM, Section 5."""
    return jnp.ones_like(sigma_hi)


def inverse_gap(sigma_lo: Sigmas, sigma_hi: Sigmas, /) -> PerExample:
    """Return lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i). Source: iCT, Table 1."""
    return 1 / (sigma_hi - sigma_lo)


def add_noise(x: Data, noise: Data, sigma: Sigmas) -> Data:
    """Return x + sigma noise, with one sigma per example."""
    return x + append_dims(sigma, x) * noise


def compare(
    prediction: Data,
    target: Data,
    sigma_lo: Sigmas,
    sigma_hi: Sigmas,
    *,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> tuple[PerExample, Aux]:
    """Compute weight(sigma_lo, sigma_hi) metric(prediction, stopgrad target).

    The prediction is the student's at sigma_hi, the target the teacher's at sigma_lo; metric and
    weight default to those of `consistency_loss`.

    Returns:
      The losses [b] and a dict of [b] arrays: `sigma_lo`, `sigma_hi`, `weight`,
      `squared_distance` (between student and teacher output, before metric and weight).

    Raises:
      ArgumentError: metric or weight do not return one value per example.
    """
    if metric is None:
        num_dims = math.prod(prediction.shape[1:])
        metric = functools.partial(pseudo_huber, c=default_huber_c(num_dims))
    weight = inverse_gap if weight is None else weight
    # theta^- = stopgrad(theta): the target is a constant of the gradient (iCT, Section 3.2).
    target = jax.lax.stop_gradient(target)
    distances, weights = metric(prediction, target), weight(sigma_lo, sigma_hi)
    for name, values in {"metric": distances, "weight": weights}.items():
        require(
            values.shape == prediction.shape[:1],
            f"the {name} returned shape {values.shape}, expected one value per example, "
            f"{prediction.shape[:1]}; reduce over all axes but the first.",
        )
    aux = {
        "sigma_lo": sigma_lo,
        "sigma_hi": sigma_hi,
        "weight": weights,
        "squared_distance": jax.lax.stop_gradient(squared_distance(prediction, target)),
    }
    return weights * distances, aux


def consistency_terms(
    f: ConsistencyFn,
    x: Data,
    noise: Data,
    sigma_lo: Sigmas,
    sigma_hi: Sigmas,
    *,
    teacher: ConsistencyFn | None = None,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> tuple[PerExample, Aux]:
    """Compute `consistency_loss` together with the diagnostics of `compare`."""
    check_data(x, sigma_lo, sigma_hi)
    require(
        noise.shape == x.shape,
        f"noise has shape {noise.shape}, expected x's {x.shape}; draw one normal per number.",
    )
    teacher = f if teacher is None else teacher
    # Both see the same noise z; the student is at the higher level (CM, Eq. 10).
    student_output = f(add_noise(x, noise, sigma_hi), sigma_hi)
    target = teacher(add_noise(x, noise, sigma_lo), sigma_lo)
    return compare(student_output, target, sigma_lo, sigma_hi, metric=metric, weight=weight)


def consistency_loss(
    f: ConsistencyFn,
    x: Data,
    noise: Data,
    sigma_lo: Sigmas,
    sigma_hi: Sigmas,
    *,
    teacher: ConsistencyFn | None = None,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> PerExample:
    """Compute the consistency loss of each example at a given pair of noise levels.

    lambda d(f(x + sigma_hi z, sigma_hi), stopgrad teacher(x + sigma_lo z, sigma_lo))

    Bind the same dropout key in both calls: `f` is called twice, so it must not draw a new one.

    Args:
      f: the student, bound to its parameters.
      x: clean data in [-1, 1].
      noise: z, standard normal, of x's shape.
      sigma_lo: sigma_i of each example.
      sigma_hi: sigma_{i+1} of each example.
      teacher: default: `f` itself; no gradient passes through it in any case.
      metric: default: Pseudo-Huber with c = 0.00054 sqrt(d).
      weight: default: 1 / (sigma_hi - sigma_lo).

    Raises:
      ArgumentError: a wrong rank, shape or dtype.

    Source: CM, Eq. 10, with iCT's teacher, metric and weighting (iCT, Table 1).
    """
    return consistency_terms(
        f, x, noise, sigma_lo, sigma_hi, teacher=teacher, metric=metric, weight=weight
    )[0]
