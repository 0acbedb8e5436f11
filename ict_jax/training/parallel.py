"""Where programs meet devices: mesh, shardings, jit and donation."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from ict_jax.core.errors import require
from ict_jax.training.state import TrainState
from ict_jax.training.step import Batch, Metrics, merge_metrics


def make_mesh(*, num_devices: int | None = None) -> Mesh:
    """A mesh with the one axis `data` over the first devices (default: all of them).

    Raises:
      ArgumentError: more devices asked for than there are.
    """
    devices = jax.devices()
    count = len(devices) if num_devices is None else num_devices
    require(
        1 <= count <= len(devices),
        f"mesh.num_devices={count}, but there are {len(devices)} devices; use at most that many.",
    )
    return Mesh(np.array(devices[:count]), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of what is cut along its first axis over the mesh."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, accumulation_steps: int, mesh: Mesh) -> None:
    """Raises `ArgumentError` unless every device gets equally many examples of every part."""
    parts = mesh.size * accumulation_steps
    require(
        batch_size % parts == 0,
        f"batch_size={batch_size} is not divisible by {mesh.size} devices x "
        f"{accumulation_steps} accumulation steps; use a multiple of {parts}.",
    )


def init_on_mesh(init: Callable[[], Any], mesh: Mesh) -> Any:
    """Runs `init()` as one program whose result is born replicated on the mesh."""
    return compile_whole(init, mesh)()


def compile_whole(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Jits a function whose result every device holds whole."""
    return jax.jit(function, out_shardings=replicated(mesh))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """Assembles a global batch from the rows that this process holds."""
    return _put(batch, batch_sharding(mesh))


def put_whole(arrays: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """Copies arrays, which every process holds whole, to every device."""
    return _put(arrays, replicated(mesh))


def _put(arrays: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, Array]:
    return {name: jax.make_array_from_process_local_data(sharding, a) for name, a in arrays.items()}


def local_rows(batch_size: int) -> slice:
    """The rows of the global batch that this process feeds.

    Raises:
      ArgumentError: the processes would not get equally many.
    """
    count, index = jax.process_count(), jax.process_index()
    require(
        batch_size % count == 0,
        f"batch_size={batch_size} is not divisible by {count} processes; use a multiple of "
        f"{count}.",
    )
    share = batch_size // count
    return slice(index * share, (index + 1) * share)


def compile_train_step(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    mesh: Mesh,
    take: Callable[[Any, Array], Batch],
) -> Callable[[TrainState, Metrics, Any], tuple[TrainState, Metrics]]:
    """Jits `advance(state, window, fed)`, which also adds the step's metrics to a window.

    State and window are donated: do not use them after the call.

    Args:
      train_step: from `make_train_step`.
      mesh: the devices.
      take: `take(fed, step)` -> the global batch; every device takes its own rows.
    """
    whole, cut = replicated(mesh), batch_sharding(mesh)

    def advance(state: TrainState, window: Metrics, fed: Any) -> tuple[TrainState, Metrics]:
        batch = jax.lax.with_sharding_constraint(take(fed, state.step), cut)
        state, metrics = train_step(state, batch)
        return state, merge_metrics(window, metrics)

    return jax.jit(
        advance,
        in_shardings=(whole, whole, None),  # fed as it lies
        out_shardings=(whole, whole),
        donate_argnums=(0, 1),
    )


def compile_sampler(
    draw: Callable[[Any, Key[Array, " b"], Array, Array], Array], mesh: Mesh
) -> Callable[[Any, Key[Array, " b"], Array, Array], Array]:
    """Jits `draw(params, keys, labels, sigmas) -> images`, cut over the mesh along the keys."""
    whole, cut = replicated(mesh), batch_sharding(mesh)
    return jax.jit(draw, in_shardings=(whole, cut, cut, whole), out_shardings=cut)
