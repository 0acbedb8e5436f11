"""Reading a checkpoint: is it what was saved, is it damaged, or is there no way to it now."""

import contextlib
import json
import math
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from ict_jax.checkpoints.directory import is_whole
from ict_jax.checkpoints.passing import closed_way, may_pass
from ict_jax.core.errors import ArgumentError
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import literal
from ict_jax.training.fingerprint import plain_sum
from ict_jax.training.parallel import fingerprint_of

FINGERPRINT = "fingerprint"

GONE_SECS = 2
"""A checkpoint that is being removed is gone within this time."""

REMEDY = "delete that directory to go on from the step before it, or copy it again."


class Damaged(ArgumentError):
    """A checkpoint cannot be read, or is not what was written."""

    def __init__(self, reason: str):
        """The message gives the reason and what to do by hand."""
        self.reason = reason
        super().__init__(f"{reason}; {REMEDY}")


@contextlib.contextmanager
def reading(path: epath.Path, *, of_steps: bool = False) -> Iterator[None]:
    """What goes wrong in it is told as the state of a checkpoint.

    Args:
      path: of the step.
      of_steps: whether it is a directory of steps instead, which is never called damaged.

    Raises:
      Damaged: its bytes are not what was saved.
      ArgumentError: it cannot be read, for another reason.
    """
    try:
        yield
    except (ArgumentError, jax.errors.JaxRuntimeError):
        raise
    except Exception as raised:  # Orbax raises just that
        error = raised if may_pass(raised) else closed_way(path) or raised
        reason = reason_of(error, path)
        if may_pass(error):
            raise _not_now(path, reason) from error
        if of_steps:
            raise ArgumentError(
                f"{path} cannot be read ({reason}); see to the files in it, or give another "
                "directory."
            ) from error
        raise judged(path, reason, "cannot be read ({})") from error


def reason_of(error: BaseException, path: epath.Path) -> str:
    """An error in one line, with the checkpoint's path as the user knows it."""
    text = " ".join(str(error).split()) or "no message"
    with contextlib.suppress(OSError, ArgumentError):
        text = text.replace(os.fspath(literal(path.parent)), os.fspath(path.parent))
    short = text if len(text) < 400 else f"{text[:150]} ... {text[-250:]}"
    return f"{type(error).__name__}: {short}"


def _not_now(path: epath.Path, reason: str) -> ArgumentError:
    return ArgumentError(
        f"the checkpoint {path} could not be read now ({reason}); see to its permissions and to "
        "the network, to memory and open files, and run the same command again."
    )


def judged(path: epath.Path, reason: str, sentence: str = "is damaged: {}") -> ArgumentError:
    """What to raise for a checkpoint that is not what was expected: `Damaged` for wrong bytes only.

    They are wrong if, read just as they are stored, they cannot be or have other sums than were
    saved, by a process that can read a checkpoint that it has just written.

    Args:
      path: of the step.
      reason: what was seen.
      sentence: what the checkpoint is if it is damaged.
    """
    try:
        _write_and_read()
    except Exception as error:
        return ArgumentError(
            f"the checkpoint {path} could not be read ({reason}), and nor could one that was just "
            f"written ({reason_of(error, path)}); see to the installed versions, to JAX's settings "
            "and to the directory of temporary files."
        )
    try:
        whole = _is_as_saved(path)
    except Exception as error:
        found = error if may_pass(error) else closed_way(path)
        if found is not None:
            return _not_now(path, reason_of(found, path))
        whole = False
    if whole:
        return ArgumentError(
            f"the checkpoint {path} is whole and was not read as what it is ({reason}); use "
            "the version of ict_jax and the settings of JAX that it was made with."
        )
    deadline = time.monotonic() + GONE_SECS
    while is_whole(path):
        if time.monotonic() > deadline:
            return Damaged(f"the checkpoint {path} {sentence.format(reason)}")
        time.sleep(0.1)
    return ArgumentError(
        f"the checkpoint {path} was removed while it was read, as a run that goes on removes its "
        "older ones; run the same command again."
    )


def _alone() -> dict[str, Any]:
    """Options by which each process reads for itself: none waits for one that fails."""
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
    return {"multiprocessing_options": options}


def _checkpointer() -> ocp.Checkpointer:
    options = ocp.CompositeOptions(**_alone())
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(composite_options=options), **_alone())


def _restore(path: epath.Path, **items: Any) -> Any:
    with _checkpointer() as checkpointer:
        named = literal(path.parent) / path.name
        found = checkpointer.restore(named, args=ocp.args.Composite(**items))
    for name in items:
        if found.get(name) is None:
            raise FileNotFoundError(f"it has no {name}")
    return found


def _write_and_read() -> None:
    """Raises whatever keeps this process from reading any checkpoint.

    Orbax writes what is no array of all processes in the first one alone: the others try nothing.
    """
    if jax.process_index() > 0:
        return
    array = np.ones(3, np.float32)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    with tempfile.TemporaryDirectory() as directory:
        path = epath.Path(directory) / "0"
        with _checkpointer() as checkpointer:
            saved = ocp.args.Composite(ema=ocp.args.StandardSave([array]))
            checkpointer.save(literal(path.parent) / "0", args=saved)
        abstract = [jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)]
        found = _restore(path, ema=ocp.args.StandardRestore(abstract))
    np.testing.assert_array_equal(found["ema"][0], array)


def _is_as_saved(path: epath.Path) -> bool:
    """Whether all items have the sums they were saved with, in the shapes and dtypes they have."""
    there = [item.name for item in path.iterdir()]
    jsons = {name: ocp.args.JsonRestore() for name in ("config", FINGERPRINT) if name in there}
    found = _restore(path, **jsons)
    saved = found.get(FINGERPRINT) or dict.fromkeys(set(there) & {"state", "ema"})
    for name, mark in saved.items():
        if name == "config":
            whole = mark == fingerprints(found["config"])["config"]
        else:
            item = _as_stored(literal(path.parent) / path.name / name)
            whole = mark is None or mark[0] == plain_sum(item)
        if not whole:
            return False
    return "config" in found


def _as_stored(directory: epath.Path) -> Any:
    """An item as NumPy arrays, but for one small array of JAX: Orbax reads more files for it."""
    handler = ocp.PyTreeCheckpointHandler(**_alone())
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


def read_items(path: epath.Path, **items: Any) -> Any:
    """Items of a checkpoint.

    Args:
      path: of the step.
      items: Orbax's arguments to restore each by.

    Raises:
      Damaged, ArgumentError: as `reading`.
    """
    with reading(path):
        return _restore(path, **items)


def read_json(path: epath.Path, item: str) -> dict:
    """An item of JSON.

    Raises:
      Damaged, ArgumentError: as `reading`.
    """
    found = read_items(path, **{item: ocp.args.JsonRestore()})[item]
    if not isinstance(found, dict):
        raise Damaged(f"the checkpoint {path} is damaged: {item} holds no names and values")
    return found


def fingerprints(config: dict, **items: Any) -> dict[str, Any]:
    """What is stored to recognise the items of a checkpoint by."""
    marks: dict[str, Any] = {name: fingerprint_of(item) for name, item in items.items()}
    return {**marks, "config": zlib.crc32(json.dumps(config, sort_keys=True).encode())}


def require_state(path: epath.Path) -> None:
    """Checks that training can go on from a checkpoint.

    Raises:
      Damaged: its state is lost.
      ArgumentError: it never had one, or nobody knows.
    """
    with reading(path):
        if (path / "state").is_dir() or not (path / "ema").is_dir():
            return
    if "state" in (read_fingerprints(path) or {}):
        raise judged(path, "it has lost its state")
    raise ArgumentError(
        f"the checkpoint {path} cannot be read for training, since it has no state: if it is "
        "of imported weights, start from it in another --workdir with --init_from; otherwise copy "
        "it again."
    )


def damaged_elsewhere(path: epath.Path) -> Damaged:
    """The error of the processes that could read what another one could not."""
    return Damaged(f"the checkpoint {path} cannot be read by another process")


def read_fingerprints(path: epath.Path) -> dict | None:
    """The stored fingerprints of a checkpoint; None if it has none.

    Raises:
      Damaged, ArgumentError: as `reading`.
    """
    with reading(path):
        there = (path / FINGERPRINT).is_dir()
    return read_json(path, FINGERPRINT) if there else None


def refuse_changed(path: epath.Path, saved: dict | None, found: dict[str, Any]) -> None:
    """Raises as `judged` unless restored items have the fingerprints they were saved with.

    Args:
      path: of the checkpoint.
      saved: its stored fingerprints; without them it is said that nothing was compared.
      found: those of what was restored.
    """
    if saved is None:
        say(f"WARNING: the checkpoint {path} has no {FINGERPRINT}: that it is whole is unchecked")
        return
    changed = [name for name in found if found[name] != saved.get(name)]
    if changed:
        raise judged(path, f"{changed[0]} is not what was saved")
