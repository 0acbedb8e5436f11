"""The form that every objective has."""

from typing import NamedTuple, Protocol, runtime_checkable

from ict_jax.core.losses import Aux
from ict_jax.core.typing import ConsistencyFn, Data, PerExample, PRNGKey, Sigmas, Step


class Draws(NamedTuple):
    """What a step draws at random for each example of the global batch."""

    noise: Data
    sigma_lo: Sigmas
    sigma_hi: Sigmas


@runtime_checkable
class Draw(Protocol):
    """`draw(key, shape, step)` -> the random numbers for a batch of `shape` [b, *dims]."""

    def __call__(self, key: PRNGKey, shape: tuple[int, ...], step: Step, /) -> Draws: ...


@runtime_checkable
class Loss(Protocol):
    """`loss(f, x, draws)` -> (losses [b], dict of [b] diagnostics)."""

    def __call__(self, f: ConsistencyFn, x: Data, draws: Draws, /) -> tuple[PerExample, Aux]: ...


class Objective(NamedTuple):
    """An objective in two pure parts.

    They are apart so that a train step can draw for the whole global batch and then
    accumulate gradients over slices of it: the same numbers whatever the slicing.
    """

    draw: Draw
    loss: Loss
