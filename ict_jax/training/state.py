"""Everything that a training run carries from one step to the next."""

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
"""Where the parameters of an objective itself stand beside the network's."""


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
        of the student, `denoiser`, a trained diffusion model, and `metric`, a network that
        compares images. Empty for iCT.
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
    """The state at step 0: the average starts from the initial parameters themselves.

    Args:
      params: initial parameters.
      tx: the optimizer.
      key: root of all randomness.
      teachers: those that there are, at the start: `target` from the initial parameters itself.
        What is trained already is loaded over its own later.
      loss_params: parameters of the objective itself, trained with the network's and not averaged.

    Source: CM authors' code (EMA from step 0).
    """
    trained = params if loss_params is None else {**params, LOSS_PARAMS: loss_params}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(trained),
        key=key,
        teachers=jax.tree.map(jnp.copy, dict(teachers)),
    )


def network_params(params: Params) -> Params:
    """The parameters of the network, without those of the objective."""
    return {name: value for name, value in params.items() if name != LOSS_PARAMS}
