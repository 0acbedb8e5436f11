"""What a run will do and cost, said without training, data or accelerators."""

import json
from typing import Any

import jax
import jax.numpy as jnp

from ict_jax.config.check import is_stated
from ict_jax.config.network import build_bind
from ict_jax.config.objective import build_discretization, has_levels
from ict_jax.config.training import Config, build_init_state, build_train_step
from ict_jax.core.discretization import Discretization
from ict_jax.core.typing import Data
from ict_jax.run.setup import check_parts
from ict_jax.runtime.console import say
from ict_jax.training import flops
from ict_jax.training.state import Params
from ict_jax.training.step import Batch, scale_images


def dry_run(config: Config) -> None:
    """Checks a config and prints it resolved, with sizes, stages and operations.

    The data is read only where the config does not state `image_shape` and `sigma_data`. What is
    said of the run's files, logging, sampling and scores is checked when a run starts.

    Raises:
      ArgumentError: something in the config is wrong.
    """
    config, mesh, _ = check_parts(config, with_data=not is_stated(config))
    say(json.dumps(config.to_dict(), indent=2))
    state = jax.eval_shape(build_init_state(config))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(_plain(state)))
    forward, step = count_flops(config)
    images = config.batch_size * config.total_steps
    part = config.batch_size // mesh.size // config.training.accumulation_steps
    say(
        f"""
parameters            {parameters:,}
state                 {held / 2**30:.3f} GiB on every device: parameters, averages, optimizer
devices               {mesh.size} {jax.default_backend()}
batch per device      {config.batch_size // mesh.size:,} images, {part:,} at a time
images in all         {images:,}
FLOP per image        {step:.4g} in the training step; 4 forward passes are {4 * forward:.4g}
FLOP in all           {step * images:.4g}"""
    )
    if has_levels(config):
        table = stage_table(build_discretization(config), config.total_steps)
        say(f"\nN(k), the number of noise levels\n{table}")


def stage_table(disc: Discretization, total_steps: int) -> str:
    """One line per stage: its first and last step, and N."""
    starts = [int(step) for step in disc.first_steps]
    ends = [*starts[1:], total_steps]
    lines = [
        f"{start:>12,} {end - 1:>12,} {int(n):>6,}"
        for start, end, n in zip(starts, ends, disc.num_scales, strict=True)
    ]
    return "\n".join([f"{'first step':>12} {'last step':>12} {'N':>6}", *lines])


def count_flops(config: Config) -> tuple[float, float]:
    """Floating-point operations per image of a forward pass and of the training step."""
    state = jax.eval_shape(build_init_state(config))
    bind, train_step = build_bind(config), build_train_step(config)
    size = config.batch_size
    image = jax.ShapeDtypeStruct((size, *config.image_shape), jnp.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((size,), jnp.int32)}

    def forward(params: Params, batch: Batch) -> Data:
        x = scale_images(batch["image"])
        return bind(params, batch["label"], None)(x, jnp.ones(len(x)))

    traced = jax.jit(forward).trace(state.params, batch), jax.jit(train_step).trace(state, batch)
    forward_flops, step_flops = (flops.count_flops(program.jaxpr) for program in traced)
    return forward_flops / size, step_flops / size


def _plain(state: Any) -> Any:
    return state.replace(key=jax.eval_shape(jax.random.key_data, state.key))
