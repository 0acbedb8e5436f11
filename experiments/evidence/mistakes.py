"""Mistakes of other implementations, each as a small change to this one.

Each is a context manager that replaces parts of which a run is built.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from ict_jax.config import network, objective, sampling, training
from ict_jax.config.objective import METRICS, OBJECTIVES
from ict_jax.core import discretization
from ict_jax.core.losses import consistency_terms, squared_distance
from ict_jax.core.objectives import Objective
from ict_jax.core.precondition import Scalings, boundary_scalings, edm_scalings
from ict_jax.core.schedules import karras_sigmas


@contextlib.contextmanager
def huber_of_each_pixel() -> Iterator[None]:
    """Use the sum over pixels of sqrt(u^2 + c^2) - c, with the c of a whole image."""

    def metric(prediction: Any, target: Any) -> Any:
        c = 0.00054 * prediction[0].size ** 0.5
        axes = tuple(range(1, prediction.ndim))
        return jnp.sum(jnp.sqrt((prediction - target) ** 2 + c**2) - c, axis=axes)

    with mock.patch.dict(METRICS, {"pseudo_huber": metric}):
        yield


@contextlib.contextmanager
def summed_squares() -> Iterator[None]:
    """Use ||u||^2, the sum over the values instead of the mean."""
    with mock.patch.dict(METRICS, {"squared_l2": squared_distance}):
        yield


def _replaced_bind(change: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """Change the bind functions of training, which have a dropout key."""
    original = network.build_bind

    def build_bind(*arguments: Any) -> Any:
        bind = original(*arguments)

        def changed(params: Any, labels: Any, key: Any) -> Any:
            return bind(params, labels, key) if key is None else change(bind, params, labels, key)

        return changed

    return mock.patch.object(training, "build_bind", build_bind)


@contextlib.contextmanager
def masks_not_shared() -> Iterator[None]:
    """Give student and teacher different dropout masks."""

    def change(bind: Any, params: Any, labels: Any, key: Any) -> Any:
        calls = itertools.count()
        return lambda x, sigma: bind(params, labels, jax.random.fold_in(key, next(calls)))(x, sigma)

    with _replaced_bind(change):
        yield


@contextlib.contextmanager
def teacher_without_dropout() -> Iterator[None]:
    """Evaluate the teacher, called second, without dropout."""

    def change(bind: Any, params: Any, labels: Any, key: Any) -> Any:
        calls = itertools.count()
        return lambda x, sigma: bind(params, labels, None if next(calls) else key)(x, sigma)

    with _replaced_bind(change):
        yield


def _scalings(name: str, **replaced: Callable[..., Any]) -> Callable[[], Any]:
    """Return a mistake that replaces scalings by functions of sigma and the right ones."""

    def changed(sigma: Any, **options: Any) -> Scalings:
        right = boundary_scalings(sigma, **options)
        return right._replace(**{key: value(sigma, right) for key, value in replaced.items()})

    def patched() -> Any:
        return mock.patch("ict_jax.core.precondition.boundary_scalings", changed)

    patched.__name__ = name
    return patched


no_c_in = _scalings("no_c_in", c_in=lambda sigma, right: jnp.ones_like(sigma))
raw_sigma = _scalings(
    "raw_sigma", c_in=lambda sigma, right: jnp.ones_like(sigma), c_noise=lambda sigma, right: sigma
)
noise_times_1000 = _scalings("noise_times_1000", c_noise=lambda sigma, right: 1000 * right.c_noise)


def no_boundary() -> Any:
    """Use the scalings of EDM instead of those that are exact at sigma_min."""

    def changed(sigma: Any, *, sigma_data: float, **_: Any) -> Scalings:
        return edm_scalings(sigma, sigma_data=sigma_data)

    return mock.patch("ict_jax.core.precondition.boundary_scalings", changed)


@contextlib.contextmanager
def grid_off_by_one() -> Iterator[None]:
    """Compute sigma_i from i / (N - 1) for i = 1..N - 1: the smallest level is missing."""

    def shifted(num_scales: int, **options: Any) -> np.ndarray:
        return np.concatenate([karras_sigmas(num_scales, **options)[1:], [80.0001]])

    with mock.patch.object(discretization, "karras_sigmas", shifted):
        yield


@contextlib.contextmanager
def levels_swapped() -> Iterator[None]:
    """Put the student at the lower level and the teacher at the higher one."""
    kind = OBJECTIVES["ict"]

    @functools.wraps(kind.make)
    def make(disc: Any, **options: Any) -> Objective:
        right = kind.make(disc, **options)

        def loss(f: Any, x: Any, draws: Any) -> Any:
            noise, lo, hi = draws
            losses, aux = consistency_terms(
                f, x, noise, hi, lo, weight=lambda low, high: 1 / (low - high)
            )
            return losses, {**aux, "sigma_lo": lo, "sigma_hi": hi}

        return Objective(right.draw, loss)

    with mock.patch.dict(OBJECTIVES, {"ict": kind._replace(make=make)}):
        yield


@contextlib.contextmanager
def curriculum_of_twice_the_run() -> Iterator[None]:
    """Set K to twice the number of steps, so that the last stages are never reached."""

    @functools.wraps(discretization.make_discretization)
    def longer(total_steps: int, **options: Any) -> discretization.Discretization:
        return discretization.make_discretization(2 * total_steps, **options)

    with mock.patch.object(objective, "make_discretization", longer):
        yield


def not_clipped() -> Any:
    """Add the second noise of two-step samples without clipping; images are clipped at the end."""
    return mock.patch.object(sampling, "sample", functools.partial(sampling.sample, clip=False))


def constant_weight() -> Any:
    """Keep w(t) of sCT and sCD at zero; an omission, not a mistake."""

    def zero(loss_params: Any, t: Any) -> Any:
        return jnp.zeros_like(t) + 0 * loss_params["kernel"].sum()

    return mock.patch("ict_jax.core.objectives.sct.learned_weight", zero)
