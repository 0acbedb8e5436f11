"""One pure training step: random numbers, loss, gradient, optimizer, moving average."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from clu.metrics import Average
from jaxtyping import Array, Float, Int, Key, UInt8

from ict_jax.core.errors import require, require_uint8
from ict_jax.core.losses import Aux
from ict_jax.core.objectives import Objective
from ict_jax.core.objectives.base import Loss
from ict_jax.core.randomness import split, uniform
from ict_jax.core.typing import ConsistencyFn, Data, PerExample
from ict_jax.training.state import LOSS_PARAMS, Params, TrainState, network_params

Batch: TypeAlias = dict[str, Array]
"""`image`: uint8 [b, h, w, c]; `label`: int32 [b]."""

Metrics: TypeAlias = dict[str, Average]

SIGMA_BIN_EDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Bins of sigma_hi in which the loss is logged apart."""


class Bind(Protocol):
    """`bind(params, labels, dropout_key)` -> f; without a dropout key, dropout is off."""

    def __call__(
        self, params: Params, labels: Int[Array, " b"] | None, dropout_key: Key[Array, ""] | None, /
    ) -> ConsistencyFn: ...


def scale_images(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """uint8 to float32 in [-1, 1], x / 127.5 - 1.

    Raises:
      ArgumentError: the images are not uint8; floats may be in [-1, 1] already.

    Source: CM authors' code.
    """
    require_uint8(images)
    return images.astype(jnp.float32) / 127.5 - 1


def random_flip(key: Key[Array, ""], x: Data) -> Data:
    """Mirrors each image left to right with probability 1/2. Source: CM, Appendix C."""
    mirrored = uniform(key, (len(x), 1, 1, 1)) < 0.5
    return jnp.where(mirrored, x[:, :, ::-1], x)


def make_train_step(
    bind: Bind,
    objective: Objective,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float = 0.99993,
    accumulation_steps: int = 1,
    flip: bool = True,
    bind_denoiser: Bind | None = None,
    bind_loss: Callable[[Params], Loss] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns `train_step(state, batch) -> (state, metrics)`, pure and not jitted.

    Every random number is a function of (state.key, state.step, index in the global batch);
    noise, levels and flips are drawn for the whole batch before it is cut for accumulation.
    Only dropout masks depend on the shape of the parts.

    Args:
      bind: makes the consistency function of given parameters.
      objective: what is drawn and minimised.
      tx: the optimizer.
      ema_decay: of the averaged parameters, applied every step.
      accumulation_steps: parts into which a batch is cut; part j holds the examples j,
        j + accumulation_steps, ..., so each device keeps its own.
      flip: mirror each image with probability 1/2.
      bind_denoiser: makes D of the state's denoiser, for objectives that have one.
      bind_loss: makes the objective's loss of the state's metric, where that has parameters.

    Raises:
      ArgumentError: ema_decay outside [0, 1), or accumulation_steps < 1.
    """
    require(
        0 <= ema_decay < 1,
        f"training.ema_decay={ema_decay} must be in [0, 1); the paper has 0.99993.",
    )
    require(
        accumulation_steps >= 1,
        f"training.accumulation_steps={accumulation_steps} must be at least 1; use 1 for none.",
    )

    part_loss = _part_loss(bind, objective, bind_denoiser, bind_loss)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        keys = split(jax.random.fold_in(state.key, state.step), 3)
        x = scale_images(batch["image"])
        if flip:
            x = random_flip(keys[0], x)
        draws = objective.draw(keys[1], x.shape, state.step)
        grads, losses, aux = _accumulate(
            lambda params, *rest: part_loss(params, state.teachers, *rest),
            state.params,
            (x, batch["label"], draws),
            keys[2],
            accumulation_steps,
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        network = network_params(params)
        metrics = _metrics(losses, aux, optax.tree.norm(grads), optax.tree.norm(params))
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            ema_params=optax.incremental_update(network, state.ema_params, 1 - ema_decay),
            opt_state=opt_state,
            teachers=_follow(objective, state.teachers, network, state.step),
        )
        return new_state, metrics

    return train_step


def _part_loss(
    bind: Bind,
    objective: Objective,
    bind_denoiser: Bind | None,
    bind_loss: Callable[[Params], Loss] | None,
) -> Callable[..., tuple[Array, Any]]:
    """`part_loss(params, teachers, part, key)` -> the mean loss, and the losses and diagnostics."""

    def part_loss(
        params: Params, teachers: dict[str, Params], part: Any, key: Key[Array, ""]
    ) -> tuple[Array, Any]:
        x, labels, draws = part
        others = {}
        if objective.target_decay is not None:
            others["target"] = bind(teachers["target"], labels, key)
        if bind_denoiser is not None:
            others["denoiser"] = bind_denoiser(teachers["denoiser"], labels, None)
        if objective.init_loss_params is not None:
            others["loss_params"] = params[LOSS_PARAMS]
        loss = objective.loss if bind_loss is None else bind_loss(teachers["metric"])
        losses, aux = loss(bind(params, labels, key), x, draws, **others)
        return losses.mean(), (losses, aux)

    return part_loss


def _follow(
    objective: Objective, teachers: dict[str, Params], params: Params, step: Int[Array, ""]
) -> dict[str, Params]:
    """The teachers after a step, of which the moving average follows the student."""
    if objective.target_decay is None:
        return teachers
    rate = 1 - objective.target_decay(step)
    return {**teachers, "target": optax.incremental_update(params, teachers["target"], rate)}


def _accumulate(
    part_loss: Callable, params: Params, batch: Any, key: Key[Array, ""], parts: int
) -> tuple[Params, PerExample, Aux]:
    """Gradient of the mean loss of a batch, and its losses and diagnostics in batch order."""
    value_and_grad = jax.value_and_grad(part_loss, has_aux=True)

    def cut(a: Array) -> Array:
        return a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1)

    def join(a: Array) -> Array:
        return a.swapaxes(0, 1).reshape(-1, *a.shape[2:])

    def body(total: Params, part_and_index: Any) -> tuple[Params, Any]:
        part, index = part_and_index
        (_, out), grads = value_and_grad(params, part, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, grads), out

    if parts == 1:
        (_, (losses, aux)), grads = value_and_grad(params, batch, jax.random.fold_in(key, 0))
        return grads, losses, aux
    total, out = jax.lax.scan(
        body,
        jax.tree.map(jnp.zeros_like, params),
        (jax.tree.map(cut, batch), jnp.arange(parts)),
    )
    losses, aux = jax.tree.map(join, out)
    return jax.tree.map(lambda g: g / parts, total), losses, aux


def _metrics(
    losses: PerExample, aux: Aux, grad_norm: Float[Array, ""], param_norm: Float[Array, ""]
) -> Metrics:
    """Averages that can be merged over steps; all take part in the check for NaN.

    The norm of the updated parameters is among them, so that what is saved has been checked.
    """
    edges = jnp.asarray(SIGMA_BIN_EDGES)
    bins = jnp.searchsorted(edges, aux["sigma_hi"])
    by_sigma = {
        f"loss_by_sigma/{name}": Average.from_model_output(losses, mask=bins == index)
        for index, name in enumerate(sigma_bin_names())
    }
    return {
        "loss": Average.from_model_output(losses),
        "grad_norm": Average.from_model_output(grad_norm),
        "param_norm": Average.from_model_output(param_norm),
        "squared_distance": Average.from_model_output(aux["squared_distance"]),
        **by_sigma,
    }


def sigma_bin_names() -> list[str]:
    """Names of the bins of sigma_hi, from the smallest levels to the largest."""
    edges = ["0", *map(str, SIGMA_BIN_EDGES), "inf"]
    return [f"{lo}-{hi}" for lo, hi in itertools.pairwise(edges)]


def merge_metrics(a: Metrics, b: Metrics) -> Metrics:
    """The averages over both spans."""
    return {name: a[name].merge(b[name]) for name in a}


def empty_metrics() -> Metrics:
    """The averages over no step at all."""
    names = ["loss", "grad_norm", "param_norm", "squared_distance"]
    names += [f"loss_by_sigma/{name}" for name in sigma_bin_names()]
    return {name: Average.empty() for name in names}
