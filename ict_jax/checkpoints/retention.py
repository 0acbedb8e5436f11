"""Orbax's options for which checkpoints of a run are kept."""

import operator
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ict_jax.core.errors import require

SCORE = "score"
_score = operator.itemgetter(SCORE)


def manager_options(
    scored: bool,
    keep_last: int,
    keep_every_steps: int | None,
    async_options: ocp.AsyncOptions | None,
) -> ocp.CheckpointManagerOptions:
    """Return the options of Orbax's manager; other arguments as of `Checkpoints`."""
    require(keep_last >= 1, f"checkpointing.keep_last={keep_last} must be at least 1.")
    require(
        keep_every_steps is None or keep_every_steps >= 1,
        f"checkpointing.keep_every_steps={keep_every_steps} must be at least 1, or None.",
    )
    policies: list[Any] = [preservation_policy.LatestN(keep_last)]
    if scored:
        policies.append(preservation_policy.BestN(get_metric_fn=_score, reverse=True, n=1))
    if keep_every_steps is not None:
        policies.append(preservation_policy.EveryNSteps(keep_every_steps))
    return ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
        best_fn=_score if scored else None,  # without it scores are not stored
        best_mode="min",
        async_options=async_options,
    )
