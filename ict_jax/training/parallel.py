"""Mesh, shardings, jit and donation.

The mesh has two axes. Batches are sharded over both. Parameters, their EMA and the optimizer's
state are sharded over `fsdp` and replicated along `data`; with `fsdp=1` they are replicated.
Programs are written for global arrays; from these shardings XLA adds the collectives.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

from ict_jax.core.errors import require
from ict_jax.core.sampling import seed_keys
from ict_jax.training.fingerprint import fingerprint
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import Batch, Metrics, merge_metrics

T = TypeVar("T")

MIN_SHARDED_SIZE = 2**12
"""Smaller arrays are replicated: gathering them would cost more than storing them."""


def make_mesh(
    devices: Sequence[Any] | None = None, *, num_devices: int | None = None, fsdp: int = 1
) -> Mesh:
    """Return a mesh with the axes `data` and `fsdp`.

    Neighbours along `fsdp` are devices of one slice, and of one host where possible.

    Args:
      devices: available devices; default: all of the job.
      num_devices: number of devices to use, the first ones; default: all.
      fsdp: number of devices over which parameters are sharded.

    Raises:
      ArgumentError: num_devices is not usable, or fsdp does not divide it.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices) if num_devices is None else num_devices
    require(
        1 <= count <= len(devices),
        f"mesh.num_devices={count}, but there are {len(devices)} devices; use at most that many.",
    )
    require(
        count == len(devices) or len({device.process_index for device in devices}) == 1,
        f"mesh.num_devices={count} leaves some of the {len(devices)} devices of several processes "
        "idle; leave it out.",
    )
    require(
        fsdp >= 1 and count % fsdp == 0,
        f"mesh.fsdp={fsdp} does not divide the {count} devices; use a divisor of their number.",
    )

    # By slice, process and id, so that rows of `fsdp` cross as few slow links as possible.
    ordered = sorted(
        devices, key=lambda d: (getattr(d, "slice_index", None) or 0, d.process_index, d.id)
    )
    grid = np.array(ordered[:count]).reshape(-1, fsdp)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays sharded along their first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_sharding(leaf: Any, mesh: Mesh) -> NamedSharding:
    """Shard an array, or its shape, over `fsdp` along its longest axis that `fsdp` divides."""
    shards = mesh.shape["fsdp"]
    axes = [axis for axis, length in enumerate(leaf.shape) if length % shards == 0]
    if shards == 1 or leaf.size < MIN_SHARDED_SIZE or not axes:
        return replicated(mesh)
    longest = max(axes, key=lambda axis: (leaf.shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))


def abstract_state(init: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """Return the shapes, dtypes and shardings of the result of `init(*args)`."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=state_sharding(a, mesh)),
        jax.eval_shape(init, *args),
    )


def gather_params(bind: Callable[..., T], mesh: Mesh) -> Callable[..., T]:
    """Return a `bind(params, ...)` that takes sharded parameters and gathers them first."""
    if mesh.shape["fsdp"] == 1:
        return bind

    # The gradient keeps the parameters' sharding: XLA reduce-scatters in place of all-reducing.
    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return jax.lax.with_sharding_constraint(params, replicated(mesh))

    def scatter(_: None, gradient: Params) -> tuple[Params]:
        return (_keep_sharded(gradient, mesh),)

    gather.defvjp(lambda params: (gather(params), None), scatter)
    return lambda params, *others: bind(gather(params), *others)


def _keep_sharded(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(
        lambda a: jax.lax.with_sharding_constraint(a, state_sharding(a, mesh)), tree
    )


def check_batch_size(batch_size: int, accumulation_steps: int, mesh: Mesh) -> None:
    """Raise `ArgumentError` unless all devices get equally many examples of every microbatch."""
    parts = mesh.size * accumulation_steps
    require(
        batch_size % parts == 0,
        f"batch_size={batch_size} is not divisible by {mesh.size} devices x "
        f"{accumulation_steps} accumulation steps; use a multiple of {parts}.",
    )


def init_on_mesh(init: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """Run `init(*args)` as one program that creates its result sharded on the mesh."""
    shardings = jax.tree.map(lambda a: a.sharding, abstract_state(init, mesh, *args))
    return jax.jit(init, out_shardings=shardings)(*args)


def jit_replicated(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Jit a function with a replicated result."""
    return jax.jit(function, out_shardings=replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """Assemble a global batch from each process's local rows."""
    return jax.make_array_from_process_local_data(batch_sharding(mesh), batch)


def replicate(arrays: Any, mesh: Mesh) -> Any:
    """Copy a tree of arrays, the same in every process, to every device."""
    return jax.make_array_from_process_local_data(replicated(mesh), arrays)


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """Return the rows of the global batch that this process feeds, those of its devices."""
    rows = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    bounds = [index[0].indices(batch_size) for index in rows if index is not None]
    return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))


def compile_train_step(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    mesh: Mesh,
    select_batch: Callable[[Any, Array], Batch],
) -> Callable[[TrainState, Metrics, Any], tuple[TrainState, Metrics]]:
    """Jit `advance(state, window, fed)`, which also adds the step's metrics to a window.

    State and window are donated: do not use them after the call. The `bind` of the train step is
    from `gather_params`. `select_batch(fed, step)` returns the global batch, of which each device
    takes its own rows.
    """

    def advance(state: TrainState, window: Metrics, fed: Any) -> tuple[TrainState, Metrics]:
        batch = select_batch(fed, state.step)
        batch = jax.lax.with_sharding_constraint(batch, batch_sharding(mesh))
        state, metrics = train_step(state, batch)
        # Results keep the shardings of the donated arguments, so that buffers are reused.
        return _keep_sharded((state, merge_metrics(window, metrics)), mesh)

    return jax.jit(advance, donate_argnums=(0, 1))


def fingerprint_of(tree: Any) -> list[int]:
    """Compute the `fingerprint` of arrays with any sharding."""
    sharding = getattr(jax.tree.leaves(tree)[0], "sharding", None)
    out = None
    if isinstance(sharding, NamedSharding):
        out = NamedSharding(sharding.mesh, PartitionSpec())
    return [int(value) for value in jax.jit(fingerprint, out_shardings=out)(tree)]


def compile_sampler(
    draw: Callable[[Params, Any, Any, Any], Any], mesh: Mesh
) -> Callable[[Params, UInt32[np.ndarray, " b"], Any, Any], Any]:
    """Jit `(params, seeds, labels, sigmas) -> images`; each device draws its rows of the batch.

    The images are replicated, so that every process has all of them. `draw(params, keys, labels,
    sigmas)` returns images, one per key, or a tree of arrays with as many rows.
    """
    rows = batch_sharding(mesh)

    def sample(params: Params, seeds: Array, labels: Array, sigmas: Array) -> Any:
        params = jax.lax.with_sharding_constraint(params, replicated(mesh))
        keys, labels = jax.lax.with_sharding_constraint((seed_keys(seeds), labels), rows)
        return jax.lax.with_sharding_constraint(draw(params, keys, labels, sigmas), rows)

    return jit_replicated(sample, mesh)
