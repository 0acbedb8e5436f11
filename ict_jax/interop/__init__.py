"""Weights of other projects in, ours out."""

from pathlib import Path

from ict_jax.build import Config
from ict_jax.checkpoints import Loaded
from ict_jax.checkpoints.load import require_finite_params
from ict_jax.core.errors import ArgumentError, require
from ict_jax.interop.diffusers import read_diffusers
from ict_jax.interop.diffusers import write_diffusers as write_diffusers
from ict_jax.interop.export import read_safetensors_export
from ict_jax.interop.export import write_safetensors as write_safetensors
from ict_jax.interop.files import refusing
from ict_jax.interop.network import check_loaded
from ict_jax.interop.openai import read_openai_cifar10, read_openai_imagenet


def read_weights(path: str | Path, config: Config | None) -> Loaded:
    """Averaged parameters, config and step from whatever kind of file or directory is given.

    | path | kind |
    |---|---|
    | a directory | `read_diffusers` |
    | `*.safetensors` | `read_safetensors_export`; takes no config |
    | `*.pt`, `*.pth` | `read_openai_imagenet` |
    | any other file | `read_openai_cifar10` |

    Raises:
      ArgumentError: it is missing, damaged, or not of the config's network.
      Diverged: a parameter is NaN or infinite.
    """
    path = Path(path)
    with refusing(path, "weights"):
        require(path.exists(), f"{path} does not exist; give the file or directory of the weights.")
        loaded = _read(path, config)
        check_loaded(loaded, str(path))
    require_finite_params(loaded.params, str(path))
    return loaded


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
