"""Import of other projects' weights, and export of ours."""

import os
import re
from pathlib import Path

from ict_jax.checkpoints import Loaded
from ict_jax.checkpoints.interop.arrays import file_digest
from ict_jax.checkpoints.interop.diffusers import read_diffusers, weights_file
from ict_jax.checkpoints.interop.diffusers import write_diffusers as write_diffusers
from ict_jax.checkpoints.interop.formats import translate_format_errors
from ict_jax.checkpoints.interop.network import check_loaded
from ict_jax.checkpoints.interop.openai import read_openai_cifar10, read_openai_imagenet
from ict_jax.checkpoints.interop.safetensors_export import read_safetensors_export
from ict_jax.checkpoints.interop.safetensors_export import write_safetensors as write_safetensors
from ict_jax.config.training import Config
from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import to_local_path


def read_weights(
    path: str | os.PathLike, config: Config | None, *, sha256: str | None = None
) -> Loaded:
    """Read EMA parameters, config and step from a file or directory of any known kind.

    | path | kind |
    |---|---|
    | a directory | `read_diffusers` |
    | `*.safetensors` | `read_safetensors_export`; takes no config |
    | `*.pt`, `*.pth` | `read_openai_imagenet` |
    | any other file | `read_openai_cifar10` |

    The SHA-256 of the file of the weights is printed, and compared with `sha256` if that is given.

    Raises:
      ArgumentError: the weights are missing, damaged, or not of the config's network or digest.
      Diverged: a parameter is NaN or infinite.
    """
    path = to_local_path(path, "--source")
    with translate_format_errors(path, "weights"):
        require(path.exists(), f"{path} does not exist; give the file or directory of the weights.")
        _check_digest(weights_file(path) if path.is_dir() else path, sha256)
        loaded = _read(path, config)
        check_loaded(loaded, str(path))
    return loaded


def _check_digest(file: Path, expected: str | None) -> None:
    require(
        expected is None or re.fullmatch("[0-9a-fA-F]{64}", expected) is not None,
        f"--sha256={expected} is no SHA-256, expected 64 hexadecimal digits, as sha256sum prints.",
    )
    found = file_digest(file, "give the file or directory of the weights")
    require(
        expected is None or found == expected.lower(),
        f"{file} has the SHA-256 {found}, expected {expected}; it is damaged or another file: get "
        "it again.",
    )
    say(f"{file}: SHA-256 {found}")


def _read(path: Path, config: Config | None) -> Loaded:
    if path.suffix == ".safetensors":
        return read_safetensors_export(path)
    if config is None:
        raise ArgumentError(
            f"a config is needed for {path}, which does not say of what network it is; give "
            "configs/openai_cifar10.py or configs/openai_imagenet64.py, or one of your own."
        )
    if path.is_dir():
        return read_diffusers(path, config)
    if path.suffix in (".pt", ".pth"):
        return read_openai_imagenet(path, config)
    return read_openai_cifar10(path, config)
