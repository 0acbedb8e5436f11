"""The training step compiled for devices that are not there, and what follows from it."""

import contextlib
import dataclasses
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ict_jax import build
from ict_jax.build import Config
from ict_jax.compiled import collectives
from ict_jax.core.errors import require
from ict_jax.preflight.topology import Topology
from ict_jax.training import parallel
from ict_jax.training.flops import count_flops
from ict_jax.training.step import empty_metrics

MARGIN = 0.15
"""The quick settings overstate the memory by about a tenth: within this, they refuse nothing."""

UTILISATIONS = (0.2, 0.4)
"""Shares of the peak for which times are given; published runs of such networks reach 5 to 15%."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a preflight found. Bytes are of one device unless they say otherwise.

    Attributes:
      topology: its name, of one slice.
      num_slices: how many of them.
      devices: that JAX sees.
      chips: that are paid for.
      hosts: processes.
      mesh: sizes of its axes.
      batch_size: of the global batch.
      images_per_device: of it.
      accumulation_steps: parts in which a device works through them.
      parameters: of the network.
      parameter_bytes: parameters and their average.
      optimizer_bytes: its state.
      peak_bytes: at most in use at one time, as the compiler planned, or what it asked for where
        it refused; None if it did not say.
      memory_bytes: what a program may use; None if the device is not known.
      fits: None if the device is not known.
      flops_per_step: of all devices, counted from the traced program.
      compiler_flops_per_step: of all devices, the compiler's count.
      compiler_bytes_per_step: to and from memory.
      scanned: whether the two counts of the compiler see the body of a loop only once.
      collectives: kind -> bytes; what stands in a loop is counted once.
      compile_secs: that tracing, lowering and compiling took here.
      level: of optimisation.
      total_images: of the whole run.
      flops_per_sec: the device's peak.
      bytes_per_sec: of its memory.
      price_per_chip_hour: as given by the user.
      refusal: the compiler's words where it refused.
    """

    topology: str
    num_slices: int
    devices: int
    chips: int
    hosts: int
    mesh: dict[str, int]
    batch_size: int
    images_per_device: int
    accumulation_steps: int
    parameters: int
    parameter_bytes: int
    optimizer_bytes: int
    peak_bytes: float | None
    memory_bytes: float | None
    fits: bool | None
    flops_per_step: float
    compiler_flops_per_step: float | None
    compiler_bytes_per_step: float | None
    scanned: bool
    collectives: dict[str, int]
    compile_secs: float
    level: str
    total_images: int
    flops_per_sec: float | None
    bytes_per_sec: float | None
    price_per_chip_hour: float | None
    refusal: str | None

    @property
    def nearly_fits(self) -> bool:
        """Whether it might fit at the default level of optimisation, and does not at this one."""
        if self.fits is not False or self.peak_bytes is None or self.memory_bytes is None:
            return False
        return self.peak_bytes <= self.memory_bytes * (1 + MARGIN)

    @property
    def bound_secs_per_step(self) -> float | None:
        """No device is faster: its peak of operations, and of bytes where these were counted."""
        if self.flops_per_sec is None or self.bytes_per_sec is None:
            return None
        bounds = [self.flops_per_step / self.devices / self.flops_per_sec]
        if self.compiler_bytes_per_step is not None and not self.scanned:
            bounds.append(self.compiler_bytes_per_step / self.bytes_per_sec)
        return max(bounds)

    def secs_per_step(self, utilisation: float) -> float | None:
        """At a share of the peak of operations."""
        if self.flops_per_sec is None:
            return None
        return self.flops_per_step / self.devices / self.flops_per_sec / utilisation

    def hours(self, secs_per_step: float) -> float:
        """Of the whole run."""
        return self.total_images / self.batch_size * secs_per_step / 3600


def abstract_progress(config: Config, mesh: Mesh) -> tuple[Any, Any]:
    """State and metrics as they lie on a mesh."""
    init_state = build.build_init_state(config)
    return parallel.abstract_state(lambda: (init_state(), empty_metrics()), mesh)


def abstract_batch(config: Config, mesh: Mesh) -> dict[str, Any]:
    """A batch that the hosts have read."""
    cut, size = parallel.batch_sharding(mesh), config.batch_size
    return {
        "image": jax.ShapeDtypeStruct((size, *config.image_shape), jnp.uint8, sharding=cut),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32, sharding=cut),
    }


def preflight(
    config: Config,
    mesh: Mesh,
    topology: Topology,
    *,
    num_slices: int = 1,
    level: str = "quick",
    price_per_chip_hour: float | None = None,
    progress: Callable[[str], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Report:
    """Compiles the training step of a resolved config for devices that need not be there.

    What the quick level refuses within `MARGIN` is compiled again at the default level.

    Args:
      config: resolved.
      mesh: of the topology's devices.
      topology: where they are.
      num_slices: for the record.
      level: "quick" compiles with little optimisation, in minutes, and overstates the memory by
        about a tenth; "default" as a run does.
      price_per_chip_hour: of any currency.
      progress: a context manager's maker, given what is being done.

    Raises:
      ArgumentError: an unknown level.
    """
    require(level in ("quick", "default"), f"--level={level} must be quick or default.")
    state, window = abstract_progress(config, mesh)
    step = parallel.compile_train_step(
        build.build_train_step(config, mesh), mesh, lambda fed, step: fed
    )
    started = time.monotonic()
    with progress("tracing and lowering the training step"):
        traced = step.trace(state, window, abstract_batch(config, mesh))
        lowered = traced.lower()
    with progress(f"compiling it for {topology.name}"), optimization(level):
        compiled, refusal = _compile(lowered)
    secs = time.monotonic() - started
    chip = topology.chip
    memory = chip.memory_bytes if chip is not None else None
    peak = float(compiled.memory_analysis().peak_memory_in_bytes) if compiled else None
    costs: Any = (compiled.cost_analysis() if compiled else None) or {}
    moved = Counter()
    for collective in collectives(compiled.as_text() if compiled else ""):
        moved[collective.kind] += collective.num_bytes
    devices = len(topology.devices)
    report = Report(
        topology=topology.name,
        num_slices=num_slices,
        devices=devices,
        chips=topology.num_chips,
        hosts=topology.num_hosts,
        mesh=dict(mesh.shape),
        batch_size=config.batch_size,
        images_per_device=config.batch_size // devices,
        accumulation_steps=config.training.accumulation_steps,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        parameter_bytes=bytes_of((state.params, state.ema_params)),
        optimizer_bytes=bytes_of(state.opt_state),
        peak_bytes=peak if compiled else refusal.required if refusal else None,
        memory_bytes=memory,
        fits=False if refusal else None if memory is None else bool(peak and peak <= memory),
        flops_per_step=count_flops(traced.jaxpr),
        compiler_flops_per_step=costs["flops"] * devices if "flops" in costs else None,
        compiler_bytes_per_step=costs.get("bytes accessed"),
        scanned=has_loops(config),
        collectives=dict(moved),
        compile_secs=secs,
        level=level,
        total_images=config.batch_size * config.total_steps,
        flops_per_sec=chip.flops_per_sec if chip else None,
        bytes_per_sec=chip.bytes_per_sec if chip else None,
        price_per_chip_hour=price_per_chip_hour,
        refusal=refusal.text if refusal else None,
    )
    if level == "quick" and report.nearly_fits:
        return preflight(
            config,
            mesh,
            topology,
            num_slices=num_slices,
            level="default",
            price_per_chip_hour=price_per_chip_hour,
            progress=progress,
        )
    return report


@contextlib.contextmanager
def optimization(level: str) -> Iterator[None]:
    """Within it, programs are compiled with little optimisation, or as always."""
    before = jax.config.values["jax_optimization_level"]
    jax.config.update("jax_optimization_level", "O0" if level == "quick" else before)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", before)


class OutOfMemory(NamedTuple):
    """The compiler's refusal, and the bytes it would need where it says so."""

    text: str
    required: float | None


def _compile(lowered: Any) -> tuple[Any, OutOfMemory | None]:
    try:
        return lowered.compile(), None
    except Exception as error:  # the compilers' own types
        text = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        found = re.search(r"required .*?\(([\d.]+)([KMG])\)", text)
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}
        required = float(found[1]) * unit[found[2]] if found else None
        return None, OutOfMemory(text[:300], required)


def bytes_of(tree: Any) -> int:
    """Bytes of a tree of arrays on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def has_loops(config: Config) -> bool:
    """Whether the compiler's counts see less than a step does."""
    return config.training.accumulation_steps > 1 or bool(config.model.get("scan_blocks"))
