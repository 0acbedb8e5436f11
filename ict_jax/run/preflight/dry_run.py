"""Dry run: a config checked and printed with its costs, without training or accelerators."""

import json

import jax
import jax.numpy as jnp

from ict_jax.config.check import check_run
from ict_jax.config.network import build_bind
from ict_jax.config.objective import build_discretization, has_levels
from ict_jax.config.sections import Config
from ict_jax.config.training import abstract_batch, build_init_state, build_train_step, sizes_of
from ict_jax.core.discretization import Discretization
from ict_jax.core.typing import Data
from ict_jax.runtime.console import say
from ict_jax.training.flops import count_flops
from ict_jax.training.state import Params
from ict_jax.training.step import Batch, scale_images


def dry_run(config: Config) -> None:
    """Check a config and print it resolved, with sizes, stages and FLOPs.

    Reads the data only if the config does not state `image_shape` and `sigma_data`. A run's files,
    logging, sampling and scores are checked when it starts.

    Raises:
      ArgumentError: something in the config is wrong.
    """
    config, mesh, _ = check_run(config)
    say(json.dumps(config.to_dict(), indent=2))
    sizes, state = sizes_of(config), jax.eval_shape(build_init_state(config))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    forward, step = flops_per_image(config)
    images = sizes.batch_size // mesh.size
    say(
        f"""
parameters            {parameters:,}
state                 {state_bytes / 2**30:.3f} GiB on every device: parameters, averages, optimizer
devices               {mesh.size} {jax.default_backend()}
batch per device      {images:,} images, {images // sizes.accumulation_steps:,} at a time
images in all         {sizes.total_images:,}
FLOP per image        {step:.4g} in the training step; 4 forward passes are {4 * forward:.4g}
FLOP in all           {step * sizes.total_images:.4g}"""
    )
    if has_levels(config):
        table = stage_table(build_discretization(config), sizes.total_steps)
        say(f"\nN(k), the number of noise levels\n{table}")


def stage_table(disc: Discretization, total_steps: int) -> str:
    """Format one line per stage: first step, last step, N."""
    starts = [int(step) for step in disc.first_steps]
    lines = [f"{'first step':>12} {'last step':>12} {'N':>6}"]
    for start, end, n in zip(starts, [*starts[1:], total_steps], disc.num_scales, strict=True):
        lines.append(f"{start:>12,} {end - 1:>12,} {int(n):>6,}")
    return "\n".join(lines)


def flops_per_image(config: Config) -> tuple[float, float]:
    """Count the FLOPs per image of a forward pass and of the training step."""
    state = jax.eval_shape(build_init_state(config))
    bind, train_step = build_bind(config), build_train_step(config)

    def forward(params: Params, batch: Batch) -> Data:
        x = scale_images(batch["image"])
        return bind(params, batch["label"], None)(x, jnp.ones(len(x)))

    batch, size = abstract_batch(config), sizes_of(config).batch_size
    traced = jax.jit(forward).trace(state.params, batch), jax.jit(train_step).trace(state, batch)
    forward_flops, step_flops = (count_flops(program.jaxpr) for program in traced)
    return forward_flops / size, step_flops / size
