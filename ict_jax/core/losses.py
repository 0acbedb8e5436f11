"""Distances, weights and the consistency loss of a given pair of noise levels."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ict_jax.core.errors import require
from ict_jax.core.precondition import check_data, per_example
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, Sigmas, Weighting

Aux = dict[str, Float[Array, " b"]]


def default_huber_c(num_dims: int) -> float:
    """c = 0.00054 sqrt(d), d the number of numbers in one example. Source: iCT, Section 3.3.

    >>> round(default_huber_c(3 * 32 * 32), 5)
    0.02993
    """
    require(num_dims >= 1, f"num_dims={num_dims} must be at least 1; give h * w * c.")
    return 0.00054 * math.sqrt(num_dims)


def squared_distance(prediction: Data, target: Data, /) -> PerExample:
    """||prediction - target||^2 of each example, summed over all its numbers.

    Raises:
      ArgumentError: the two shapes differ.
    """
    _check_shapes(prediction, target)
    return jnp.sum((prediction - target) ** 2, axis=tuple(range(1, prediction.ndim)))


def _check_shapes(prediction: Data, target: Data) -> None:
    require(
        prediction.shape == target.shape,
        f"prediction has shape {prediction.shape} and target {target.shape}; they must be equal.",
    )


def pseudo_huber(prediction: Data, target: Data, /, *, c: float) -> PerExample:
    """sqrt(||prediction - target||^2 + c^2) - c of each example.

    The norm is over a whole example. Applied to each number it would be a scaled squared
    distance at the differences that occur.

    Computed as s / (sqrt(s + c^2) + c) with s = ||.||^2, which keeps the digits that the
    subtraction of c loses at small s.

    Raises:
      ArgumentError: c <= 0.

    Source: iCT, Section 3.3 and Table 1.
    """
    require(c > 0, f"huber_c={c} must be positive; the paper has 0.00054 * sqrt(d).")
    squared = squared_distance(prediction, target)
    return squared / (jnp.sqrt(squared + c**2) + c)


def mean_squared_distance(prediction: Data, target: Data, /) -> PerExample:
    """||prediction - target||^2 / d of each example, the mean over its d numbers.

    RAdam does not normalise its first five updates (at b2 = 0.999): there the sum instead of the
    mean is a d times higher learning rate, with which CT diverges on Fashion-MNIST.

    Raises:
      ArgumentError: the two shapes differ.

    Source: CM, Section 5, the metric l2; the mean is that of the CM authors' code.
    """
    _check_shapes(prediction, target)
    return jnp.mean((prediction - target) ** 2, axis=tuple(range(1, prediction.ndim)))


def mean_absolute_distance(prediction: Data, target: Data, /) -> PerExample:
    """||prediction - target||_1 / d of each example, the mean over its d numbers.

    Raises:
      ArgumentError: the two shapes differ.

    Source: CM, Section 5, the metric l1; the mean is that of the CM authors' code.
    """
    _check_shapes(prediction, target)
    return jnp.mean(jnp.abs(prediction - target), axis=tuple(range(1, prediction.ndim)))


def unit_weight(sigma_lo: Sigmas, sigma_hi: Sigmas, /) -> PerExample:
    """lambda(sigma_i) = 1. Source: CM, Section 5."""
    return jnp.ones_like(sigma_hi)


def inverse_gap(sigma_lo: Sigmas, sigma_hi: Sigmas, /) -> PerExample:
    """lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i). Source: iCT, Table 1."""
    return 1 / (sigma_hi - sigma_lo)


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
    """`consistency_loss` together with its per-example diagnostics.

    Returns:
      The losses [b] and a dict of [b] arrays: `sigma_lo`, `sigma_hi`, `weight`,
      `squared_distance` (between student and teacher output, before metric and weight).
    """
    check_data(x, sigma_lo, sigma_hi)
    require(
        noise.shape == x.shape,
        f"noise has shape {noise.shape}, expected x's {x.shape}; draw one normal per number.",
    )
    teacher = f if teacher is None else teacher
    student_output = f(noisy(x, noise, sigma_hi), sigma_hi)
    target = teacher(noisy(x, noise, sigma_lo), sigma_lo)
    return compare(student_output, target, sigma_lo, sigma_hi, metric=metric, weight=weight)


def noisy(x: Data, noise: Data, sigma: Sigmas) -> Data:
    """x + sigma noise, with one sigma per example."""
    return x + per_example(sigma, x) * noise


def compare(
    prediction: Data,
    target: Data,
    sigma_lo: Sigmas,
    sigma_hi: Sigmas,
    *,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> tuple[PerExample, Aux]:
    """weight(sigma_lo, sigma_hi) metric(prediction, target), no gradient through the target.

    Args:
      prediction: of the student at sigma_hi.
      target: of the teacher at sigma_lo.
      sigma_lo: of each example.
      sigma_hi: of each example.
      metric: default: Pseudo-Huber with c = 0.00054 sqrt(d).
      weight: default: 1 / (sigma_hi - sigma_lo).

    Returns:
      As `consistency_terms`.

    Raises:
      ArgumentError: metric or weight do not return one value per example.
    """
    if metric is None:
        num_dims = math.prod(prediction.shape[1:])
        metric = functools.partial(pseudo_huber, c=default_huber_c(num_dims))
    weight = inverse_gap if weight is None else weight
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
    """lambda(sigma_lo, sigma_hi) d(f(x + sigma_hi z, sigma_hi), stopgrad teacher(x + sigma_lo z)).

    The student sees the higher level, the teacher the lower one, with the same noise z. Bind
    the same dropout key in both calls: `f` is called twice, so it must not draw a new one.

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
