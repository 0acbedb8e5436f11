"""Reading a checkpoint: is it what was saved, is it damaged, or is there no way to it now."""

import contextlib
import errno
import json
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ict_jax.console import say
from ict_jax.core.errors import ArgumentError
from ict_jax.files import failures, is_remote
from ict_jax.training.parallel import fingerprint_of

FINGERPRINT = "fingerprint"

REMEDY = "delete that directory to go on from the step before it, or copy it again."


class Damaged(ArgumentError):
    """A checkpoint cannot be read, or is not what was written."""

    def __init__(self, reason: str):
        """The message gives the reason and what to do by hand."""
        self.reason = reason
        super().__init__(f"{reason}; {REMEDY}")


_PASSING_NAMES = (
    *("EACCES", "EPERM", "EIO", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM"),
    *("ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET"),
    *("ENOTCONN", "ENOLINK", "EREMOTEIO"),
)
_PASSING_NUMBERS = {getattr(errno, name) for name in _PASSING_NAMES if hasattr(errno, name)}
_PASSING_STATUS = re.compile(  # TensorStore's, which come as ValueError
    r"\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|"
    + "|".join(_PASSING_NAMES)
    + r")\b"
)


def may_pass(error: BaseException | None) -> bool:
    """Whether an error says nothing of what is stored, but of the way to it."""
    while error is not None:
        if isinstance(error, OSError):
            passing = (PermissionError, TimeoutError, ConnectionError)
            if isinstance(error, passing) or error.errno in _PASSING_NUMBERS:
                return True
        elif isinstance(error, (MemoryError, *failures())) or _PASSING_STATUS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def closed_way(path: epath.Path) -> OSError | None:
    """Why a part of a directory on a disk cannot be looked at, where it seems not to be there."""
    found: list[OSError] = []
    if not is_remote(path):
        for _ in os.walk(path, onerror=found.append):
            pass
    return next(filter(may_pass, found), None)


@contextlib.contextmanager
def reading(path: epath.Path) -> Iterator[None]:
    """What goes wrong in it is told as the state of a checkpoint.

    Raises:
      Damaged: it cannot be read.
      ArgumentError: it cannot be read at the moment.
    """
    try:
        yield
    except (ArgumentError, jax.errors.JaxRuntimeError):
        raise
    except Exception as raised:  # Orbax raises just that
        error = raised if may_pass(raised) else closed_way(path) or raised
        lines = str(error).strip().splitlines() or ["no message"]
        reason = f"{type(error).__name__}: {lines[0][:200]}"
        if may_pass(error):
            raise ArgumentError(
                f"the checkpoint {path} could not be read now ({reason}); see to its permissions "
                "and to the network, and run the same command again."
            ) from error
        raise Damaged(f"the checkpoint {path} cannot be read ({reason})") from error


def read_items(path: epath.Path, **items: Any) -> Any:
    """Items of a checkpoint, read by each process for itself: none waits for one that fails.

    Args:
      path: of the step.
      items: Orbax's arguments to restore each by.

    Raises:
      Damaged, ArgumentError: as `reading`.
    """
    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone)
    )
    with reading(path), ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
        found = reader.restore(path, args=ocp.args.Composite(**items))
        missing = [name for name in items if found.get(name) is None]
        if missing:
            raise Damaged(f"the checkpoint {path} has no {missing[0]}")
        return found


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
        raise Damaged(f"the checkpoint {path} has lost its state")
    raise ArgumentError(
        f"the checkpoint {path} cannot be read for training, since it has no state: if it is "
        "of imported weights, start from it in another --workdir with --init_from; if it is "
        "damaged, delete that directory to go on from the step before it."
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
    """Raises `Damaged` unless restored items have the fingerprints they were saved with.

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
        raise Damaged(f"the checkpoint {path} is damaged: {changed[0]} is not what was saved")
