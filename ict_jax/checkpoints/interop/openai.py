"""Checkpoints that OpenAI released with "Consistency Models"."""

from pathlib import Path

import jax

from ict_jax.checkpoints import Loaded
from ict_jax.checkpoints.interop.arrays import import_arrays
from ict_jax.checkpoints.interop.formats import read_msgpack
from ict_jax.checkpoints.interop.name_maps import adm_layout, jcm_layout
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from ict_jax.config.check import resolve_network
from ict_jax.config.network import image_shape
from ict_jax.config.sections import Config
from ict_jax.core.errors import require
from ict_jax.models import ADM, NCSNpp


def read_openai_cifar10(path: Path, config: Config) -> Loaded:
    """Read the EMA parameters of a checkpoint of OpenAI's consistency_models_cifar10.

    Args:
      path: Flax msgpack with `params_ema`, of an EDM, CD or CT network.
      config: config with the network `ncsnpp` and its sizes.

    Raises:
      ArgumentError: the file is damaged, or of another network than the config's.
    """
    config, model = resolve_network(config, NCSNpp, "ncsnpp")
    tree = read_msgpack(path)
    require(
        isinstance(tree.get("params_ema"), dict),
        f"{path} has the entries {sorted(tree)[:8]} and no averaged parameters 'params_ema'; "
        "choose a checkpoint of consistency_models_cifar10.",
    )
    flat = jax.tree_util.tree_leaves_with_path(tree["params_ema"])
    arrays = {"/".join(str(key.key) for key in keys): leaf for keys, leaf in flat}
    params = import_arrays(arrays, jcm_layout(model, image_shape(config)), str(path))
    return Loaded(params, config, int(tree.get("step", 0)))


def read_openai_imagenet(path: Path, config: Config) -> Loaded:
    """Read the weights in a file of OpenAI's consistency_models, such as `cd_imagenet64_lpips.pt`.

    Args:
      path: PyTorch state dict with the EMA parameters of an EDM, CD or CT network.
      config: config with the network `adm` and its sizes.

    Raises:
      ArgumentError: the file is damaged, or of another network than the config's.
    """
    config, model = resolve_network(config, ADM, "adm")
    layout = adm_layout(model, image_shape(config))
    return Loaded(import_arrays(read_torch_file(path), layout, str(path)), config, 0)
