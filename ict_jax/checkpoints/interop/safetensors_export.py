"""Our checkpoints as single safetensors files, and back."""

import json
import os
from pathlib import Path

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from ict_jax.checkpoints import Loaded
from ict_jax.checkpoints.interop.arrays import check_finite, check_shapes
from ict_jax.checkpoints.interop.formats import (
    FINGERPRINT,
    check_fingerprint,
    read_safetensors,
    safetensors_bytes,
)
from ict_jax.config.network import build_init_params
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.randomness import seed_key
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import to_path, writable_directory, write_atomically

FORMAT = "ict_jax"  # in the header


def write_safetensors(loaded: Loaded, path: str | os.PathLike) -> epath.Path:
    """Write what `load_ema` loads to one .safetensors file; return its path.

    Names are those of our tree, joined by dots; the header has `format`, `config` (JSON), `step`
    and a fingerprint of all of it. The file may be in a bucket.

    Raises:
      ArgumentError: another suffix, or a directory that cannot be written to.
      Diverged: a parameter is NaN or infinite.
      NotSaved: it cannot be written.
    """
    path = to_path(path)
    require(
        path.suffix == ".safetensors" and not path.is_dir(),
        f"{path} must be a file whose name ends in .safetensors; choose another.",
    )
    writable_directory(path.parent, "the directory")
    arrays = {
        name: np.ascontiguousarray(leaf)
        for name, leaf in flatten_dict(loaded.params, sep=".").items()
    }
    check_finite(arrays, "the checkpoint")
    config = json.dumps(loaded.config.to_dict(), sort_keys=True)
    header = {"format": FORMAT, "config": config, "step": str(loaded.step)}
    write_atomically(path, safetensors_bytes(arrays, header))
    return path


def read_safetensors_export(path: Path) -> Loaded:
    """Read what `write_safetensors` wrote: bitwise the same parameters, config and step.

    Raises:
      ArgumentError: the file is damaged, or was not written by this package.
      Diverged: a parameter is NaN or infinite.
    """
    arrays, header = read_safetensors(path)
    require(
        header.get("format") == FORMAT,
        f"{path} has the format {header.get('format')!r} in its header, expected {FORMAT!r}; "
        "for a network of diffusers give the directory of its pipeline.",
    )
    try:
        config, step = ConfigDict(json.loads(header["config"])), int(header["step"])
        shapes = jax.eval_shape(build_init_params(config), seed_key(0))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(
            f"{path} has a header that describes no network ({error}); export it again."
        ) from error
    leaves: dict = flatten_dict(shapes, sep=".")
    expected = {name: leaf.shape for name, leaf in leaves.items()}
    check_shapes(arrays, expected, str(path))
    others = sorted({*header} - {"format", "config", "step", FINGERPRINT})
    require(not others, f"{path} has {others} in its header, as no export has; export it again.")
    if not check_fingerprint(path, arrays, header):
        say(f"WARNING: {path} has no {FINGERPRINT}: it could not be verified")
    check_finite(arrays, str(path))
    params = unflatten_dict(arrays, sep=".")
    return Loaded(params, config, step)
