"""Improved consistency training (iCT): the recipe in one call."""

import functools

import jax

from ict_jax.core.discretization import Discretization, draw_sigma_pair
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, consistency_terms, pseudo_huber
from ict_jax.core.objectives.base import Draws, Objective
from ict_jax.core.typing import (
    ConsistencyFn,
    Data,
    Metric,
    PerExample,
    PRNGKey,
    Step,
    Weighting,
)


def ict_objective(
    disc: Discretization,
    *,
    huber_c: float | None = None,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> Objective:
    """iCT as an `Objective`; the arguments are those of `ict_loss`."""
    require(
        huber_c is None or metric is None,
        f"huber_c={huber_c} and a metric were both given; huber_c belongs to the default "
        "metric, so leave one of them out.",
    )
    if huber_c is not None:
        metric = functools.partial(pseudo_huber, c=huber_c)

    def draw(key: PRNGKey, shape: tuple[int, ...], step: Step) -> Draws:
        key_sigma, key_noise = jax.random.split(key)
        sigma_lo, sigma_hi = draw_sigma_pair(key_sigma, shape[:1], step, disc)
        return Draws(jax.random.normal(key_noise, shape), sigma_lo, sigma_hi)

    def loss(f: ConsistencyFn, x: Data, draws: Draws) -> tuple[PerExample, Aux]:
        return consistency_terms(
            f, x, draws.noise, draws.sigma_lo, draws.sigma_hi, metric=metric, weight=weight
        )

    return Objective(draw, loss)


def ict_loss(
    f: ConsistencyFn,
    x: Data,
    key: PRNGKey,
    step: Step,
    disc: Discretization,
    *,
    huber_c: float | None = None,
    metric: Metric | None = None,
    weight: Weighting | None = None,
) -> tuple[PerExample, Aux]:
    """The loss of iCT, one value per example; take the mean to train.

    Args:
      f: the consistency function, bound to its parameters and to one dropout key.
      x: clean data in [-1, 1].
      key: for the noise levels and the noise.
      step: k, the training step, which may be traced: it sets N(k).
      disc: curriculum, grid and noise law, from `make_discretization`.
      huber_c: c of the Pseudo-Huber metric; default 0.00054 sqrt(d).
      metric: replaces the Pseudo-Huber metric.
      weight: replaces 1 / (sigma_hi - sigma_lo).

    Returns:
      Losses [b] and a dict of [b] arrays: `sigma_lo`, `sigma_hi`, `weight`,
      `squared_distance`.

    Raises:
      ArgumentError: a wrong rank, shape or dtype; huber_c <= 0; huber_c beside a metric.

    Source: iCT, Table 1; CM, Eq. 10.
    """
    objective = ict_objective(disc, huber_c=huber_c, metric=metric, weight=weight)
    return objective.loss(f, x, objective.draw(key, x.shape, step))
