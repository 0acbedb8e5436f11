"""Where programs meet devices: mesh, shardings, jit and donation.

The mesh has two axes. Every batch is cut over both. Parameters, their average and the optimizer's
state are cut over `fsdp` and the same along `data`; with `fsdp=1` every device holds them whole.
A program is written for the global arrays; these shardings make XLA add the collectives.
"""

import functools
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

WHOLE_BELOW = 2**12
"""Arrays of fewer elements are not cut: to gather them costs more than to hold them."""


def make_mesh(
    devices: Sequence[Any] | None = None,
    *,
    num_devices: int | None = None,
    fsdp: int = 1,
) -> Mesh:
    """A mesh with the axes `data` and `fsdp`.

    Neighbours along `fsdp` are devices of one slice, and of one host where they fit.

    Args:
      devices: to choose from; default: all of the job.
      num_devices: how many of them, the first; default: all.
      fsdp: over how many devices the parameters are cut.

    Raises:
      ArgumentError: so many devices cannot be used, or fsdp does not divide them.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices) if num_devices is None else num_devices
    require(
        1 <= count <= len(devices),
        f"mesh.num_devices={count}, but there are {len(devices)} devices; use at most that many.",
    )
    several = len({device.process_index for device in devices}) > 1
    require(
        count == len(devices) or not several,
        f"mesh.num_devices={count} leaves some of the {len(devices)} devices of several processes "
        "idle; leave it out.",
    )
    require(
        fsdp >= 1 and count % fsdp == 0,
        f"mesh.fsdp={fsdp} does not divide the {count} devices; use a divisor of their number.",
    )
    slices = [getattr(device, "slice_index", None) or 0 for device in devices]
    ordered = sorted(
        zip(slices, devices, strict=True), key=lambda d: (d[0], d[1].process_index, d[1].id)
    )
    grid = np.array([device for _, device in ordered[:count]]).reshape(-1, fsdp)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of what is cut along its first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_sharding(leaf: Any, mesh: Mesh) -> NamedSharding:
    """How an array of the state lies: cut over `fsdp` along its longest axis that it divides.

    Args:
      leaf: an array, or its shape and dtype.
      mesh: the devices.
    """
    parts = mesh.shape["fsdp"]
    axes = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
    if parts == 1 or leaf.size < WHOLE_BELOW or not axes:
        return replicated(mesh)
    longest = max(axes, key=lambda axis: (leaf.shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))


def abstract_state(init: Callable[..., Any], mesh: Mesh, *given: Any) -> Any:
    """Shapes, dtypes and shardings of what `init(*given)` returns."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=state_sharding(a, mesh)),
        jax.eval_shape(init, *given),
    )


def gathering(bind: Callable[..., T], mesh: Mesh) -> Callable[..., T]:
    """A `bind(params, ...)` that is given cut parameters; its gradient comes back cut as they."""
    if mesh.shape["fsdp"] == 1:
        return bind

    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return jax.lax.with_sharding_constraint(params, replicated(mesh))

    def scatter(_: None, gradient: Params) -> tuple[Params]:
        return (_keep_cut(gradient, mesh),)

    gather.defvjp(lambda params: (gather(params), None), scatter)
    return lambda params, *others: bind(gather(params), *others)


def _keep_cut(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(
        lambda a: jax.lax.with_sharding_constraint(a, state_sharding(a, mesh)), tree
    )


def check_batch_size(batch_size: int, accumulation_steps: int, mesh: Mesh) -> None:
    """Raises `ArgumentError` unless every device gets equally many examples of every part."""
    parts = mesh.size * accumulation_steps
    require(
        batch_size % parts == 0,
        f"batch_size={batch_size} is not divisible by {mesh.size} devices x "
        f"{accumulation_steps} accumulation steps; use a multiple of {parts}.",
    )


def init_on_mesh(init: Callable[..., Any], mesh: Mesh, *given: Any) -> Any:
    """Runs `init(*given)` as one program whose result is born as it lies on the mesh."""
    shardings = jax.tree.map(lambda a: a.sharding, abstract_state(init, mesh, *given))
    return jax.jit(init, out_shardings=shardings)(*given)


def compile_whole(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Jits a function whose result every device holds whole."""
    return jax.jit(function, out_shardings=replicated(mesh))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """Assembles a global batch from the rows that this process holds."""
    return _put(batch, batch_sharding(mesh))


def put_whole(arrays: Any, mesh: Mesh) -> Any:
    """Copies a tree of arrays, which every process holds whole, to every device."""
    return _put(arrays, replicated(mesh))


def _put(arrays: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), arrays)


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows of the global batch that this process feeds, those of its devices."""
    rows = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    bounds = [index[0].indices(batch_size) for index in rows if index is not None]
    return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))


def compile_train_step(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    mesh: Mesh,
    take: Callable[[Any, Array], Batch],
) -> Callable[[TrainState, Metrics, Any], tuple[TrainState, Metrics]]:
    """Jits `advance(state, window, fed)`, which also adds the step's metrics to a window.

    State and window are donated: do not use them after the call.

    Args:
      train_step: from `make_train_step`, with a `bind` from `gathering`.
      mesh: the devices.
      take: `take(fed, step)` -> the global batch; every device takes its own rows.
    """
    cut = batch_sharding(mesh)

    def advance(state: TrainState, window: Metrics, fed: Any) -> tuple[TrainState, Metrics]:
        batch = jax.lax.with_sharding_constraint(take(fed, state.step), cut)
        state, metrics = train_step(state, batch)
        return _keep_cut(state, mesh), _keep_cut(merge_metrics(window, metrics), mesh)

    return jax.jit(advance, donate_argnums=(0, 1))


def fingerprint_of(tree: Any) -> list[int]:
    """The `fingerprint` of arrays, however they lie on the devices."""
    sharding = getattr(jax.tree.leaves(tree)[0], "sharding", None)
    whole = None
    if isinstance(sharding, NamedSharding):
        whole = NamedSharding(sharding.mesh, PartitionSpec())
    return [int(number) for number in _jitted_fingerprint(whole)(tree)]


@functools.cache
def _jitted_fingerprint(sharding: NamedSharding | None) -> Callable[[Any], Array]:
    return jax.jit(fingerprint, out_shardings=sharding)


def compile_sampler(
    draw: Callable[[Params, Any, Any, Any], Any], mesh: Mesh
) -> Callable[[Params, UInt32[np.ndarray, " b"], Any, Any], Any]:
    """Jits `(params, seeds, labels, sigmas) -> images`; every device draws a part of a batch.

    The images come whole to every device, and so to every process.

    Args:
      draw: `draw(params, keys, labels, sigmas)` -> images, one per key, or a tree of arrays with
        as many rows.
      mesh: the devices.
    """
    whole, cut = replicated(mesh), batch_sharding(mesh)

    def drawn(params: Params, seeds: Array, labels: Array, sigmas: Array) -> Any:
        params = jax.lax.with_sharding_constraint(params, whole)
        keys, labels = jax.lax.with_sharding_constraint((seed_keys(seeds), labels), cut)
        return jax.lax.with_sharding_constraint(draw(params, keys, labels, sigmas), cut)

    return jax.jit(drawn, out_shardings=whole)
