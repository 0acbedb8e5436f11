"""Improved consistency training (iCT): the recipe in one call."""

import functools

import jax.numpy as jnp

from ict_jax.core.discretization import Discretization
from ict_jax.core.errors import require
from ict_jax.core.losses import Aux, pseudo_huber
from ict_jax.core.objectives.base import Objective, pair_objective
from ict_jax.core.typing import ConsistencyFn, Data, Metric, PerExample, PRNGKey, Step, Weighting


def ict_objective(
    disc: Discretization,
    *,
    huber_c: float | None = None,
    metric: Metric | None = None,
    weight: Weighting | None = None,
    target_decay: float | None = None,
) -> Objective:
    """Return iCT as an `Objective`.

    Args:
      disc: curriculum, grid and noise distribution, from `make_discretization`.
      huber_c: c of the Pseudo-Huber metric; default 0.00054 sqrt(d).
      metric: replaces the Pseudo-Huber metric.
      weight: replaces 1 / (sigma_hi - sigma_lo).
      target_decay: for ablations, mu of a teacher that is the student's EMA; iCT has none.

    Raises:
      ArgumentError: huber_c beside a metric, or target_decay outside [0, 1).

    Source: iCT, Table 1.
    """
    require(
        huber_c is None or metric is None,
        f"huber_c={huber_c} and a metric were both given; huber_c belongs to the default "
        "metric, so leave one of them out.",
    )
    require(
        target_decay is None or 0 <= target_decay < 1,
        f"target_decay={target_decay} must be in [0, 1), or None as in the paper.",
    )
    if huber_c is not None:
        metric = functools.partial(pseudo_huber, c=huber_c)
    decay = None if target_decay is None else lambda step: jnp.float32(target_decay)
    return pair_objective(disc, metric, weight, decay)


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
    """Compute the loss of iCT, one value per example; take the mean to train.

    Args:
      f: the consistency function, bound to its parameters and to one dropout key.
      x: clean data in [-1, 1].
      key: random key of the noise levels and the noise.
      step: k, the training step, which may be traced; it sets N(k).
      disc: as in `ict_objective`.
      huber_c: as in `ict_objective`.
      metric: as in `ict_objective`.
      weight: as in `ict_objective`.

    Returns:
      Losses [b] and a dict of [b] arrays: `sigma_lo`, `sigma_hi`, `weight`, `squared_distance`.

    Raises:
      ArgumentError: a wrong rank, shape or dtype; huber_c <= 0; huber_c beside a metric.

    Source: iCT, Table 1; CM, Eq. 10.
    """
    objective = ict_objective(disc, huber_c=huber_c, metric=metric, weight=weight)
    return objective.loss(f, x, objective.draw(key, x.shape, step))
