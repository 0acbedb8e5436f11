"""Verified reading of a checkpoint: is it intact, damaged, or only inaccessible for now?"""

import contextlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ict_jax.checkpoints.directory import is_complete
from ict_jax.checkpoints.restore import check_restoring_works, restore_as_stored, restore_items
from ict_jax.checkpoints.transient import find_access_error, is_transient
from ict_jax.core.errors import ArgumentError
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import literal_path
from ict_jax.training.fingerprint import plain_sum
from ict_jax.training.parallel import fingerprint_of

FINGERPRINT = "fingerprint"

REMOVAL_SECS = 2
"""Time within which a checkpoint that is being removed has disappeared."""

REMEDY = "delete that directory to go on from the step before it, or copy it again."


class Damaged(ArgumentError):
    """A checkpoint cannot be read, or is not what was written."""

    def __init__(self, reason: str):
        """Compose the message from the reason and the remedy."""
        self.reason = reason
        super().__init__(f"{reason}; {REMEDY}")


@contextlib.contextmanager
def translate_read_errors(path: epath.Path, *, of_steps: bool = False) -> Iterator[None]:
    """Re-raise errors as a diagnosis of the checkpoint of a step, or of a directory of steps.

    Raises:
      Damaged: the stored bytes are not what was saved.
      ArgumentError: the checkpoint cannot be read for another reason.
    """
    try:
        yield
    except (ArgumentError, jax.errors.JaxRuntimeError):
        raise
    except Exception as raised:  # Orbax raises just that
        error = raised if is_transient(raised) else find_access_error(path) or raised
        reason = describe_error(error, path)
        if is_transient(error):
            raise _inaccessible(path, reason) from error
        if of_steps:
            raise ArgumentError(
                f"{path} cannot be read ({reason}); check the files in it, or give another "
                "directory."
            ) from error
        raise diagnose(path, reason, "cannot be read ({})") from error


def describe_error(error: BaseException, path: epath.Path) -> str:
    """Return an error on one line, with the checkpoint's path as the user knows it."""
    text = " ".join(str(error).split()) or "no message"
    with contextlib.suppress(OSError, ArgumentError):
        text = text.replace(os.fspath(literal_path(path.parent)), os.fspath(path.parent))
    short = text if len(text) < 400 else f"{text[:150]} ... {text[-250:]}"
    return f"{type(error).__name__}: {short}"


def _inaccessible(path: epath.Path, reason: str) -> ArgumentError:
    return ArgumentError(
        f"the checkpoint {path} could not be read now ({reason}); check its permissions, the "
        "network, memory and the number of open files, and run the same command again."
    )


def diagnose(path: epath.Path, reason: str, sentence: str = "is damaged: {}") -> ArgumentError:
    """Return the error for an unexpected checkpoint: `Damaged` only if its bytes are wrong.

    They are wrong if they cannot be restored as stored, or have other sums than were saved, in a
    process that can restore a checkpoint which it has just written.
    """
    try:
        check_restoring_works()
    except Exception as error:
        return ArgumentError(
            f"the checkpoint {path} could not be read ({reason}), and nor could one that was just "
            f"written ({describe_error(error, path)}); check the installed versions, JAX's "
            "settings and the directory of temporary files."
        )
    try:
        intact = _is_as_saved(path)
    except Exception as error:
        found = error if is_transient(error) else find_access_error(path)
        if found is not None:
            return _inaccessible(path, describe_error(found, path))
        intact = False
    if intact:
        return ArgumentError(
            f"the checkpoint {path} is intact but was not read as expected ({reason}); use the "
            "version of ict_jax and the settings of JAX that it was made with."
        )
    deadline = time.monotonic() + REMOVAL_SECS
    while is_complete(path):
        if time.monotonic() > deadline:
            return Damaged(f"the checkpoint {path} {sentence.format(reason)}")
        time.sleep(0.1)
    return ArgumentError(
        f"the checkpoint {path} was removed while it was read, as a running training removes its "
        "older ones; run the same command again."
    )


def _is_as_saved(path: epath.Path) -> bool:
    """Return whether all items have their saved sums in the shapes and dtypes on disk."""
    present = [item.name for item in path.iterdir()]
    jsons = {name: ocp.args.JsonRestore() for name in ("config", FINGERPRINT) if name in present}
    found = restore_items(path, **jsons)
    saved = found.get(FINGERPRINT) or dict.fromkeys(set(present) & {"state", "ema"})
    for name, mark in saved.items():
        if name == "config":
            intact = mark == compute_fingerprints(found["config"])["config"]
        else:
            item = restore_as_stored(literal_path(path.parent) / path.name / name)
            intact = mark is None or mark[0] == plain_sum(item)
        if not intact:
            return False
    return "config" in found


def read_items(path: epath.Path, **items: Any) -> Any:
    """Read items of a step by Orbax's arguments; raise as `translate_read_errors`."""
    with translate_read_errors(path):
        return restore_items(path, **items)


def read_json_item(path: epath.Path, item: str) -> dict:
    """Read a JSON item of a step; raise as `translate_read_errors`."""
    found = read_items(path, **{item: ocp.args.JsonRestore()})[item]
    if not isinstance(found, dict):
        raise Damaged(f"the checkpoint {path} is damaged: {item} is not a JSON object")
    return found


def read_fingerprints(path: epath.Path) -> dict | None:
    """Read the fingerprints of a step, None if it has none; raise as `translate_read_errors`."""
    with translate_read_errors(path):
        stored = (path / FINGERPRINT).is_dir()
    return read_json_item(path, FINGERPRINT) if stored else None


def compute_fingerprints(config: dict, **items: Any) -> dict[str, Any]:
    """Compute what is stored to verify the items of a checkpoint."""
    marks: dict[str, Any] = {name: fingerprint_of(item) for name, item in items.items()}
    return {**marks, "config": zlib.crc32(json.dumps(config, sort_keys=True).encode())}


def require_unchanged(path: epath.Path, saved: dict | None, found: dict[str, Any]) -> None:
    """Raise as `diagnose` unless the found fingerprints are the saved ones; warn without these."""
    if saved is None:
        say(f"WARNING: the checkpoint {path} has no {FINGERPRINT}: it could not be verified")
        return
    changed = [name for name in found if found[name] != saved.get(name)]
    if changed:
        raise diagnose(path, f"{changed[0]} is not what was saved")


def require_state(path: epath.Path) -> None:
    """Raise `Damaged` if a checkpoint has lost its state, `ArgumentError` if it never had one."""
    with translate_read_errors(path):
        if (path / "state").is_dir() or not (path / "ema").is_dir():
            return
    if "state" in (read_fingerprints(path) or {}):
        raise diagnose(path, "it has lost its state")
    raise ArgumentError(
        f"the checkpoint {path} cannot be read for training, since it has no state: if it is "
        "of imported weights, start from it in another --workdir with --init_from; otherwise copy "
        "it again."
    )


def damaged_elsewhere(path: epath.Path) -> Damaged:
    """Return the error of the processes that could read what another one could not."""
    return Damaged(f"the checkpoint {path} cannot be read by another process")
