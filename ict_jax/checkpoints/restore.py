"""Restoring items with Orbax, in each process by itself."""

import math
import tempfile
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from ict_jax.runtime.storage import literal_path


def _single_process() -> dict[str, Any]:
    """Return options by which no process waits for another one that fails."""
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
    return {"multiprocessing_options": options}


def _checkpointer() -> ocp.Checkpointer:
    options = ocp.CompositeOptions(**_single_process())
    handler = ocp.CompositeCheckpointHandler(composite_options=options)
    return ocp.Checkpointer(handler, **_single_process())


def restore_items(path: epath.Path, **items: Any) -> Any:
    """Restore items of a step by Orbax's arguments.

    Raises:
      FileNotFoundError: an item is missing. Orbax raises other errors of any kind.
    """
    with _checkpointer() as checkpointer:
        literal = literal_path(path.parent) / path.name
        found = checkpointer.restore(literal, args=ocp.args.Composite(**items))
    for name in items:
        if found.get(name) is None:
            raise FileNotFoundError(f"it has no {name}")
    return found


def restore_as_stored(directory: epath.Path) -> Any:
    """Restore an item as NumPy arrays in the shapes and dtypes it was saved with.

    One small array is restored as JAX's, for which Orbax reads more of the files.
    """
    handler = ocp.PyTreeCheckpointHandler(**_single_process())
    stored, tree = jax.tree.flatten(handler.metadata(directory).tree)
    args: list[Any] = [ocp.RestoreArgs(restore_type=np.ndarray)] * len(stored)
    sizes = [
        (math.prod(array.shape), index)
        for index, array in enumerate(stored)
        if array.dtype.itemsize < 8
    ]
    if sizes:
        device = SingleDeviceSharding(jax.local_devices()[0])
        args[min(sizes)[1]] = ocp.ArrayRestoreArgs(sharding=device)
    return handler.restore(
        directory, args=ocp.args.PyTreeRestore(restore_args=tree.unflatten(args))
    )


def check_restoring_works() -> None:
    """Raise whatever keeps this process from restoring a checkpoint that it has just saved.

    Orbax lets only process 0 save what is not sharded over all processes; the others check
    nothing.
    """
    if jax.process_index() > 0:
        return
    array = np.ones(3, np.float32)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    with tempfile.TemporaryDirectory() as directory:
        path = epath.Path(directory) / "0"
        with _checkpointer() as checkpointer:
            saved = ocp.args.Composite(ema=ocp.args.StandardSave([array]))
            checkpointer.save(literal_path(path.parent) / "0", args=saved)
        abstract = [jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)]
        found = restore_items(path, ema=ocp.args.StandardRestore(abstract))
    np.testing.assert_array_equal(found["ema"][0], array)
