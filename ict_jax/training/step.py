"""Pure training step: random draws, loss, gradient, optimizer, EMA."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

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

Bind: TypeAlias = Callable[[Params, Int[Array, " b"] | None, Key[Array, ""] | None], ConsistencyFn]
"""`bind(params, labels, dropout_key)` -> f; without a dropout key, dropout is off."""

SIGMA_BIN_EDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Edges of the bins of sigma_hi for which the loss is logged separately."""


def scale_images(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Convert uint8 to float32 in [-1, 1], x / 127.5 - 1.

    Raises:
      ArgumentError: the images are not uint8; floats may be in [-1, 1] already.

    Source: CM authors' code.
    """
    require_uint8(images)
    return images.astype(jnp.float32) / 127.5 - 1


def random_flip(key: Key[Array, ""], x: Data) -> Data:
    """Mirror each image left to right with probability 1/2. Source: CM, Appendix C."""
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
    """Return `train_step(state, batch) -> (state, metrics)`, pure and not jitted.

    Every random number is a function of (state.key, state.step, index in the global batch);
    noise, levels and flips are drawn for the whole batch before it is split into microbatches.
    Only dropout masks depend on the size of the microbatches.

    Args:
      bind: makes the consistency function of given parameters.
      objective: draws and loss.
      tx: the optimizer.
      ema_decay: decay of the EMA parameters, which are updated every step.
      accumulation_steps: number of microbatches; microbatch j contains the examples j,
        j + accumulation_steps, ..., so that each device keeps its own.
      flip: mirror each image with probability 1/2.
      bind_denoiser: makes D of the state's denoiser, for objectives that have one.
      bind_loss: makes the loss from the state's metric, if that has parameters.

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
    mean_loss = functools.partial(
        _mean_loss, bind=bind, objective=objective, bind_denoiser=bind_denoiser, bind_loss=bind_loss
    )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # A function of key and step alone, so that a resumed run draws the same numbers.
        key_flip, key_draw, key_dropout = split(jax.random.fold_in(state.key, state.step), 3)
        x = scale_images(batch["image"])
        if flip:
            x = random_flip(key_flip, x)
        draws = objective.draw(key_draw, x.shape, state.step)
        rows, loss = (x, batch["label"], draws), functools.partial(mean_loss, state.teachers)
        grads, losses, aux = _accumulate(loss, state.params, rows, key_dropout, accumulation_steps)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        network = network_params(params)
        metrics = _metrics(losses, aux, optax.tree.norm(grads), optax.tree.norm(params))
        # theta_ema <- mu theta_ema + (1 - mu) theta; the teacher likewise, at its own rate.
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            ema_params=optax.incremental_update(network, state.ema_params, 1 - ema_decay),
            opt_state=opt_state,
            teachers=_update_target(objective, state.teachers, network, state.step),
        )
        return new_state, metrics

    return train_step


def _mean_loss(
    teachers: dict[str, Params],
    params: Params,
    batch: Any,
    key: Key[Array, ""],
    *,
    bind: Bind,
    objective: Objective,
    bind_denoiser: Bind | None,
    bind_loss: Callable[[Params], Loss] | None,
) -> tuple[Array, tuple[PerExample, Aux]]:
    x, labels, draws = batch
    # Student and teacher share the dropout key, and so the mask (iCT, Section 3).
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


def _update_target(
    objective: Objective, teachers: dict[str, Params], params: Params, step: Int[Array, ""]
) -> dict[str, Params]:
    if objective.target_decay is None:
        return teachers
    rate = 1 - objective.target_decay(step)
    return {**teachers, "target": optax.incremental_update(params, teachers["target"], rate)}


def _accumulate(
    mean_loss: Callable, params: Params, batch: Any, key: Key[Array, ""], count: int
) -> tuple[Params, PerExample, Aux]:
    """Compute the gradient over `count` microbatches, and losses and diagnostics in batch order."""
    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    if count == 1:
        (_, (losses, aux)), grads = value_and_grad(params, batch, jax.random.fold_in(key, 0))
        return grads, losses, aux

    # [b, ...] <-> [count, b / count, ...], with stride: neighbours are on one device.
    def split_rows(a: Array) -> Array:
        return a.reshape(-1, count, *a.shape[1:]).swapaxes(0, 1)

    def join_rows(a: Array) -> Array:
        return a.swapaxes(0, 1).reshape(-1, *a.shape[2:])

    def body(total: Params, indexed: tuple[Any, Array]) -> tuple[Params, Any]:
        microbatch, index = indexed
        (_, out), grads = value_and_grad(params, microbatch, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, grads), out

    total, out = jax.lax.scan(
        body,
        jax.tree.map(jnp.zeros_like, params),
        (jax.tree.map(split_rows, batch), jnp.arange(count)),
    )
    # Microbatches have equal sizes, so the mean of their gradients is the batch's gradient.
    losses, aux = jax.tree.map(join_rows, out)
    return jax.tree.map(lambda g: g / count, total), losses, aux


def _metrics(
    losses: PerExample, aux: Aux, grad_norm: Float[Array, ""], param_norm: Float[Array, ""]
) -> Metrics:
    """Return averages to merge over steps; all are checked for NaN, `param_norm` before a save."""
    bins = jnp.searchsorted(jnp.asarray(SIGMA_BIN_EDGES), aux["sigma_hi"])
    values = (losses, grad_norm, param_norm, aux["squared_distance"])
    metrics = [Average.from_model_output(value) for value in values]
    for index in range(len(SIGMA_BIN_EDGES) + 1):
        metrics.append(Average.from_model_output(losses, mask=bins == index))
    return dict(zip(_metric_names(), metrics, strict=True))


def _metric_names() -> list[str]:
    by_sigma = [f"loss_by_sigma/{name}" for name in sigma_bin_names()]
    return ["loss", "grad_norm", "param_norm", "squared_distance", *by_sigma]


def sigma_bin_names() -> list[str]:
    """Return the names of the bins of sigma_hi, ascending."""
    edges = ["0", *map(str, SIGMA_BIN_EDGES), "inf"]
    return [f"{lo}-{hi}" for lo, hi in itertools.pairwise(edges)]


def merge_metrics(a: Metrics, b: Metrics) -> Metrics:
    """Merge averages over two spans of steps."""
    return {name: a[name].merge(b[name]) for name in a}


def empty_metrics() -> Metrics:
    """Return averages over no steps."""
    return {name: Average.empty() for name in _metric_names()}
