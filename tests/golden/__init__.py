"""Outputs of the published networks under random weights; README.md says how they were made."""

import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from ict_jax.models import ADM, NCSNpp

HERE = Path(__file__).parent
MSGPACK = HERE / "jcm_checkpoint_tiny"


class Golden(NamedTuple):
    """The network with its published sizes, its arrays by their names, and in- and outputs."""

    model: Any
    arrays: dict[str, np.ndarray]
    data: Any


def ncsnpp() -> Golden:
    """A small NCSN++ of consistency_models_cifar10."""
    data = np.load(HERE / "ncsnpp_tiny.npz")
    meta = json.loads(str(data["meta"]))
    model = NCSNpp(
        channels=meta["nf"],
        channel_mult=tuple(meta["ch_mult"]),
        num_res_blocks=meta["num_res_blocks"],
        attention_resolutions=tuple(meta["attn_resolutions"]),
        fourier_scale=meta["fourier_scale"],
    )
    tree = flax.serialization.msgpack_restore(MSGPACK.read_bytes())
    flat = jax.tree_util.tree_leaves_with_path(tree["params_ema"])
    return Golden(model, {"/".join(key.key for key in path): leaf for path, leaf in flat}, data)


def adm(name: str) -> Golden:
    """A small ADM of consistency_models: `adm_tiny` (AdaGN) or `adm_tiny_additive`."""
    data = np.load(HERE / f"{name}.npz")
    meta = json.loads(str(data["meta"]))
    model = ADM(
        channels=meta["model_channels"],
        channel_mult=tuple(meta["channel_mult"]),
        num_res_blocks=meta["num_res_blocks"],
        attention_resolutions=tuple(meta["attention_resolutions"]),
        head_channels=meta["num_head_channels"],
        scale_shift_norm=meta["use_scale_shift_norm"],
        num_classes=meta["num_classes"],
    )
    return Golden(model, {k[6:]: data[k] for k in data.files if k.startswith("param:")}, data)


def fields(model: Any) -> dict[str, Any]:
    """The fields of a network as a config has them."""
    names = set(inspect.signature(type(model)).parameters) - {"parent", "name"}
    return {name: getattr(model, name) for name in sorted(names)}
