"""EMA parameters on disk: read for sampling, on any devices, and written for imports."""

import os
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from ict_jax.checkpoints.directory import (
    DIRECTORY,
    INCOMPLETE,
    complete_steps,
    is_complete,
    remove_incomplete,
)
from ict_jax.checkpoints.integrity import (
    compute_fingerprints,
    describe_error,
    read_fingerprints,
    read_items,
    read_json_item,
    require_unchanged,
    translate_read_errors,
)
from ict_jax.checkpoints.transient import find_access_error
from ict_jax.config.network import build_bind, build_init_params, num_classes
from ict_jax.config.sampling import is_diffusion
from ict_jax.config.training import Config
from ict_jax.core.errors import ArgumentError, Diverged, NotSaved, require
from ict_jax.core.randomness import seed_key
from ict_jax.core.typing import ConsistencyFn, Data, Sigmas
from ict_jax.runtime.locks import locked_directory
from ict_jax.runtime.storage import io_errors, literal_path, to_path, writable_directory
from ict_jax.training.state import Params


class Loaded(NamedTuple):
    """EMA parameters of the network, and the config and step of their checkpoint."""

    params: Params
    config: Config
    step: int


def load_ema(
    path: str | os.PathLike,
    *,
    step: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
    what: str = "checkpoint",
) -> Loaded:
    """Load the EMA parameters of a checkpoint, whatever devices it was made on.

    Args:
      path: a work directory, its `checkpoints` directory, or one step in it.
      step: of the checkpoint; default: the newest.
      sharding: of the parameters; default: the first device.
      what: name of the path in messages.

    Raises:
      ArgumentError: there is no complete checkpoint, or it cannot be read.
      Diverged: a parameter is NaN or infinite.
    """
    item = locate(path, step, what=what)
    if sharding is None:
        sharding = SingleDeviceSharding(jax.devices()[0])
    with translate_read_errors(item):
        stored = read_json_item(item, "config")
        config = ConfigDict(stored)
        shapes = jax.eval_shape(build_init_params(config), seed_key(0))
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes
        )
        params = read_items(item, ema=ocp.args.StandardRestore(abstract))["ema"]
        found = compute_fingerprints(stored, ema=params)
        require_unchanged(item, read_fingerprints(item), found)
    require_finite_params(params, str(item))
    return Loaded(params, config, int(item.name))


def require_finite_params(params: Params, what: str) -> None:
    """Raise `Diverged` unless all parameters of `what` are finite."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.isfinite(leaf).all():
            raise Diverged(
                f"{jax.tree_util.keystr(keys)} of {what} has values that are NaN or infinite; get "
                "it again, or take an earlier checkpoint (--step)."
            )


def load_consistency_fn(
    path: str | os.PathLike, *, step: int | None = None
) -> tuple[ConsistencyFn, Config]:
    """Load the consistency function of a checkpoint; `path` and `step` as of `load_ema`.

    Returns:
      `f(x, sigma, labels=None)`, ready for `sample` and `jax.jit`, and the resolved config.

    Raises:
      ArgumentError: there is no complete checkpoint, or it is of a diffusion model; or, when f is
        called, labels are missing, or given to a model without classes.
    """
    loaded = load_ema(path, step=step)
    require(
        not is_diffusion(loaded.config),
        f"the checkpoint {path} holds a diffusion model; sample from it with ict_jax.cli.sample.",
    )
    bind, classes = build_bind(loaded.config), num_classes(loaded.config)

    def f(x: Data, sigma: Sigmas, labels: Any = None) -> Data:
        require(
            (labels is None) == (classes == 0),
            f"labels were {'not given' if labels is None else 'given'} and the model has "
            f"{classes or 'no'} classes; "
            + ("give one class per example." if classes else "leave them out."),
        )
        return bind(loaded.params, labels, None)(x, sigma)

    return f, loaded.config


def locate(
    path: str | os.PathLike, step: int | None = None, *, what: str = "checkpoint"
) -> epath.Path:
    """Return the directory of a checkpoint's step; `path` and `step` as of `load_ema`.

    Raise `ArgumentError` if there is no complete checkpoint, or not that step.
    """
    path = to_path(path)
    with translate_read_errors(path, of_steps=True):
        require(path.exists(), f"{what}={path} does not exist; give a work directory of a run.")
        require(
            path.is_dir() and INCOMPLETE not in path.name,
            f"{what}={path} is {'incomplete' if path.is_dir() else 'a file'}, expected a work "
            "directory or a complete step in its checkpoints directory; choose another.",
        )
        if (path / DIRECTORY).is_dir():
            path = path / DIRECTORY
        elif path.name.isdecimal() and any((path / item).exists() for item in ("ema", "config")):
            require(
                step in (None, int(path.name)),
                f"{what}={path} is step {path.name} and step {step} was asked for; leave one out.",
            )
            step, path = int(path.name), path.parent
        steps = complete_steps(path)
        if not steps:
            names = [p.name for p in path.iterdir() if INCOMPLETE in p.name or p.name.isdecimal()]
            found = f"only the incomplete {names[0]}" if names else "none"
            raise ArgumentError(
                f"{what}={path} should hold checkpoints and holds {found}; train first, or "
                "give the work directory of another run."
            )
        require(
            step is None or step in steps,
            f"step {step} is not among the checkpoints {steps} of {path}; choose one of these.",
        )
        chosen = path / str(steps[-1] if step is None else step)
        missing = [item for item in ("ema", "config") if not (chosen / item).is_dir()]
        if missing and (error := find_access_error(chosen)):
            raise error
        require(
            not missing,
            f"the checkpoint {chosen} lacks {missing}: it is incomplete or no checkpoint of "
            "ict_jax; choose another step.",
        )
        return chosen


def write_ema(workdir: epath.Path, params: Params, config: Config, step: int) -> epath.Path:
    """Write EMA parameters and their resolved config as a checkpoint; return its directory.

    Raises:
      ArgumentError: the directory cannot be written to, is in use, or holds checkpoints.
      NotSaved: the checkpoint cannot be written; nothing is left of it.
    """
    directory = workdir / DIRECTORY
    path = directory / str(step)
    items = ocp.args.Composite(
        ema=ocp.args.StandardSave(params),
        config=ocp.args.JsonSave(config.to_dict()),
        fingerprint=ocp.args.JsonSave(compute_fingerprints(config.to_dict(), ema=params)),
    )
    with locked_directory(workdir, "--out"):
        writable_directory(directory, "--out")
        _remove_failed_import(path)
        found = directory.iterdir() if directory.exists() else ()
        existing = [entry.name for entry in found if not entry.name.startswith(".")]
        require(
            not existing,
            f"--out={workdir} already holds the checkpoints {existing[:3]}; give a new directory.",
        )
        try:
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
                writer.save(literal_path(directory) / str(step), args=items)
        except (*io_errors(), ValueError, RuntimeError) as error:
            for _ in range(10):  # other parts of the save still write, and recreate directories
                _remove_failed_import(path)
                time.sleep(0.2)
            raise NotSaved(
                f"{path} could not be written ({describe_error(error, path)}); make room or fix "
                "the disk, and run the same command again."
            ) from error
    return path


def _remove_failed_import(step: epath.Path) -> None:
    remove_incomplete(step.parent)
    if step.exists() and not is_complete(step):  # in a bucket, where no directory is renamed
        step.rmtree()
