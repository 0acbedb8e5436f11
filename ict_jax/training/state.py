"""Everything that a training run carries from one step to the next."""

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
    """

    step: Int[Array, ""]
    params: Params
    ema_params: Params
    opt_state: optax.OptState
    key: Key[Array, ""]


def create_state(
    params: Params, tx: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """The state at step 0: the average starts from the initial parameters themselves.

    Source: CM authors' code (EMA from step 0).
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
        key=key,
    )
