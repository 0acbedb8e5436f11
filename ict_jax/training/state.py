"""State of a training run."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

Params = Any

LOSS_PARAMS = "objective"
"""Key of the loss parameters beside the network's."""


@flax.struct.dataclass
class TrainState:
    """State of a run at one step, a pytree of arrays.

    Attributes:
      step: number of finished steps, k of the next one.
      params: the student's parameters.
      ema_params: EMA of the network's parameters, used for sampling.
      opt_state: the optimizer's state.
      key: root of all randomness of training; constant during a run.
      teachers: parameters of other functions that the objective needs: `target`, an EMA of the
        student, `denoiser`, a trained diffusion model, and `metric`, a network that compares
        images. Empty for iCT.
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
    teachers: Mapping[str, Params] = MappingProxyType({}),
    loss_params: Params = None,
) -> TrainState:
    """Create the state at step 0; the EMA starts from the initial parameters.

    Args:
      params: initial parameters.
      tx: the optimizer.
      key: root of all randomness.
      teachers: initial teachers; trained ones are loaded over them later.
      loss_params: parameters of the loss, trained with the network's but without an EMA.

    Source: CM authors' code (EMA from step 0).
    """
    trained = params if loss_params is None else {**params, LOSS_PARAMS: loss_params}
    # Copies, because donated buffers must not appear twice in a state.
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(trained),
        key=key,
        teachers=jax.tree.map(jnp.copy, dict(teachers)),
    )


def network_params(params: Params) -> Params:
    """Return the parameters of the network, without those of the loss."""
    return {name: value for name, value in params.items() if name != LOSS_PARAMS}
