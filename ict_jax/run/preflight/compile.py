"""The training step compiled for devices that need not be present."""

import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from ict_jax.config.sections import Config
from ict_jax.config.training import abstract_batch, build_init_state, build_train_step, sizes_of
from ict_jax.core.errors import require
from ict_jax.run.preflight.collectives import collectives
from ict_jax.run.preflight.result import Report
from ict_jax.run.preflight.topology import Topology
from ict_jax.training import parallel
from ict_jax.training.flops import count_flops, has_loops
from ict_jax.training.step import empty_metrics

Announce = Callable[[str], AbstractContextManager[None]]
"""Makes a context for a task that takes long, given its description."""


class OutOfMemory(NamedTuple):
    """Refusal of the compiler, and the bytes that it requires if it says so."""

    text: str
    required: float | None


def preflight(
    config: Config,
    mesh: Mesh,
    topology: Topology,
    *,
    num_slices: int = 1,
    level: str = "quick",
    price_per_chip_hour: float | None = None,
    progress: Announce = contextlib.nullcontext,
) -> Report:
    """Compile the training step of a resolved config for devices that need not be present.

    A step that the quick level refuses within `result.MARGIN` is compiled again at the default
    level.

    Args:
      config: resolved config.
      mesh: mesh of the topology's devices.
      topology: the devices.
      num_slices: number of slices, for the report.
      level: "quick" compiles with little optimization, in minutes, and overstates the memory by
        about a tenth; "default" compiles as for a run.
      price_per_chip_hour: price in any currency.
      progress: announces what takes long.

    Raises:
      ArgumentError: an unknown level, or a price that is not above zero.
    """
    require(level in ("quick", "default"), f"--level={level} must be quick or default.")
    price = price_per_chip_hour
    require(
        price is None or 0 < price < math.inf,
        f"--price_per_chip_hour={price} must be above zero; leave it out if it is not known.",
    )

    given = {"num_slices": num_slices, "price_per_chip_hour": price}
    report = _report(config, mesh, topology, level, progress, **given)
    if level == "quick" and report.nearly_fits:
        report = _report(config, mesh, topology, "default", progress, **given)
    return report


def compile_for_topology(
    config: Config, mesh: Mesh, name: str, level: str, progress: Announce
) -> tuple[Any, Any, Any, OutOfMemory | None, float]:
    """Compile the training step for a named topology, at a level of optimization.

    Returns:
      Abstract state, traced program, compiled program (None if the compiler refused), refusal, and
      seconds taken.
    """
    init_state = build_init_state(config)
    state, window = parallel.abstract_state(lambda: (init_state(), empty_metrics()), mesh)
    batch = abstract_batch(config, parallel.batch_sharding(mesh))
    step = parallel.compile_train_step(build_train_step(config, mesh), mesh, lambda fed, step: fed)
    started = time.monotonic()
    with progress("tracing and lowering the training step"):
        traced = step.trace(state, window, batch)
        lowered = traced.lower()
    again = "" if level == "quick" else ", optimised as for a run"
    with progress(f"compiling it for {name}{again}"), optimization(level):
        program, refusal = _compile(lowered)
    return state, traced.jaxpr, program, refusal, time.monotonic() - started


def _report(
    config: Config, mesh: Mesh, topology: Topology, level: str, progress: Announce, **given: Any
) -> Report:
    sizes, chip = sizes_of(config), topology.chip
    state, jaxpr, program, refusal, secs = compile_for_topology(
        config, mesh, topology.name, level, progress
    )
    memory = chip.usable_bytes if chip is not None else None
    peak, moved = refusal and refusal.required, Counter()
    costs: Any = {}
    if program is not None:
        peak = float(program.memory_analysis().peak_memory_in_bytes)
        costs = program.cost_analysis() or {}
        for collective in collectives(program.as_text()):
            moved[collective.kind] += collective.num_bytes
    return Report(
        topology=topology.name,
        devices=mesh.size,
        chips=topology.num_chips,
        hosts=topology.num_hosts,
        mesh=dict(mesh.shape),
        batch_size=sizes.batch_size,
        images_per_device=sizes.batch_size // mesh.size,
        accumulation_steps=sizes.accumulation_steps,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        parameter_bytes=bytes_of((state.params, state.ema_params, state.teachers)),
        optimizer_bytes=bytes_of(state.opt_state),
        peak_bytes=peak,
        memory_bytes=memory,
        fits=False if refusal else None if memory is None else bool(peak and peak <= memory),
        flops_per_step=count_flops(jaxpr),
        compiler_flops_per_step=costs["flops"] * mesh.size if "flops" in costs else None,
        compiler_bytes_per_step=costs.get("bytes accessed"),
        scanned=has_loops(jaxpr),
        remat=sizes.remat,
        collectives=dict(moved),
        compile_secs=secs,
        level=level,
        total_images=sizes.total_images,
        flops_per_sec=chip.flops_per_sec if chip else None,
        bytes_per_sec=chip.bytes_per_sec if chip else None,
        refusal=refusal.text if refusal else None,
        **given,
    )


@contextlib.contextmanager
def optimization(level: str) -> Iterator[None]:
    """Compile programs within this context with little optimization if the level is "quick"."""
    before = jax.config.values["jax_optimization_level"]
    jax.config.update("jax_optimization_level", "O0" if level == "quick" else before)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", before)


def _compile(lowered: Any) -> tuple[Any, OutOfMemory | None]:
    try:
        return lowered.compile(), None
    except Exception as error:  # compilers raise types of their own
        text = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        found = re.search(r"required [^()]*\(([\d.]+)([KMGT])\)", text)
        unit = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
        required = float(found[1]) * unit[found[2]] if found else None
        return None, OutOfMemory(text[:300], required)


def bytes_of(tree: Any) -> int:
    """Return the bytes of a tree of arrays on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
