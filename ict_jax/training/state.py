"""Everything that a training run carries from one step to the next."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

Params = Any


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays only.

    Attributes:
      step: number of finished steps, k of the next one.
      params: the student's parameters.
      ema_params: their exponential moving average, which samples are drawn with.
      opt_state: the optimizer's state.
      key: root of all randomness of training; never changes during a run.
      teachers: parameters of other functions that the objective needs: `target`, a moving average
        of the student, and `denoiser`, a trained diffusion model. Empty for iCT.
    """

    step: Int[Array, ""]
    params: Params
    ema_params: Params
    opt_state: optax.OptState
    key: Key[Array, ""]
    teachers: dict[str, Params] = dataclasses.field(default_factory=dict)


def create_state(
    params: Params,
    tx: optax.GradientTransformation,
    key: Key[Array, ""],
    teachers: Sequence[str] = (),
) -> TrainState:
    """The state at step 0: averages and teachers start from the initial parameters themselves.

    Args:
      params: initial parameters.
      tx: the optimizer.
      key: root of all randomness.
      teachers: names of those that there are. A denoiser is loaded over its own later.

    Source: CM authors' code (EMA from step 0).
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
        key=key,
        teachers={name: jax.tree.map(jnp.copy, params) for name in teachers},
    )
