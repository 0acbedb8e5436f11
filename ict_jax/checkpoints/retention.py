"""Which checkpoints of a run are kept: Orbax's options."""

from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ict_jax.core.errors import require

SCORE = "score"


def manager_options(
    *,
    scored: bool,
    keep_last: int,
    keep_every_steps: int | None,
    async_options: ocp.AsyncOptions | None,
) -> ocp.CheckpointManagerOptions:
    """The options of a manager.

    Args:
      scored: whether scores are stored; then the best checkpoint is kept in any case.
      keep_last: how many of the newest are kept.
      keep_every_steps: checkpoints at multiples of it are kept for good; None for none.
      async_options: for saving in the background.

    Raises:
      ArgumentError: a number below 1.
    """
    require(keep_last >= 1, f"checkpointing.keep_last={keep_last} must be at least 1.")
    require(
        keep_every_steps is None or keep_every_steps >= 1,
        f"checkpointing.keep_every_steps={keep_every_steps} must be at least 1, or None.",
    )
    kept: list[Any] = [preservation_policy.LatestN(keep_last)]
    if scored:
        kept.append(preservation_policy.BestN(get_metric_fn=_score, reverse=True, n=1))
    if keep_every_steps is not None:
        kept.append(preservation_policy.EveryNSteps(keep_every_steps))
    return ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.AnyPreservationPolicy(kept),
        best_fn=_score if scored else None,  # without it scores are not stored
        best_mode="min",
        async_options=async_options,
    )


def _score(metrics: dict[str, float]) -> float:
    return metrics[SCORE]
