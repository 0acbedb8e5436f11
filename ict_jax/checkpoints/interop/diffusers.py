"""Directories of diffusers' ConsistencyModelPipeline, read and written without diffusers."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from ict_jax.checkpoints import Loaded
from ict_jax.checkpoints.interop.arrays import check_finite, export_arrays, import_arrays
from ict_jax.checkpoints.interop.formats import (
    check_fingerprint,
    read_json,
    read_safetensors,
    safetensors_bytes,
)
from ict_jax.checkpoints.interop.name_maps import diffusers_layout
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from ict_jax.config.check import resolve_network
from ict_jax.config.network import image_shape, noise_settings, with_network
from ict_jax.config.sampling import is_diffusion
from ict_jax.config.sections import Config
from ict_jax.core.errors import ArgumentError, require
from ict_jax.models import ADM
from ict_jax.runtime.storage import atomic_path, to_path, writable_directory

SCHEDULER = "CMStochasticIterativeScheduler"
LEVELS = ("sigma_min", "sigma_max", "sigma_data", "rho")
"""Fields of the scheduler that our configs have too."""
UNET_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
DIFFUSERS = "0.42.1"
"""The version of diffusers that exported directories were loaded with."""

# ADM in the terms of UNet2DModel: values, and their defaults there.
ADM_IS: dict[str, tuple[Any, Any]] = {
    "_class_name": ("UNet2DModel", "UNet2DModel"),
    "time_embedding_type": ("positional", "positional"),
    "flip_sin_to_cos": (True, True),
    "freq_shift": (0, 0),
    "center_input_sample": (False, False),
    "mid_block_scale_factor": (1, 1),
    "act_fn": ("silu", "silu"),
    "norm_num_groups": (32, 32),
    "norm_eps": (1e-5, 1e-5),
    "add_attention": (True, True),
    "class_embed_type": (None, None),
    "downsample_type": ("resnet", "conv"),
    "upsample_type": ("resnet", "conv"),
}
PLAIN = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
ATTENDING = ("AttnDownBlock2D", "AttnUpBlock2D")
"""Names of the blocks of a resolution, in the encoder and the decoder."""

NORMS = {"default": False, "scale_shift": True}


def read_diffusers(directory: Path, config: Config) -> Loaded:
    """Read the weights in a directory that `diffusers.ConsistencyModelPipeline` saved.

    Args:
      directory: directory with `unet/` and `scheduler/`.
      config: config whose network, image shape and noise levels are replaced by the directory's.

    Raises:
      ArgumentError: a file is missing or damaged, or ADM does not cover the network.
      Diverged: a parameter is NaN or infinite.
    """
    require(
        not is_diffusion(config),
        "the config is of a diffusion model, and directories of diffusers are read for consistency "
        "models only; leave out :edm.",
    )
    unet_path = directory / "unet" / "config.json"
    unet = read_json(unet_path)
    fields, shape = _adm_fields(unet, unet_path)
    path = directory / "scheduler" / "scheduler_config.json"
    scheduler = read_json(path)
    require(
        scheduler.get("_class_name") == SCHEDULER,
        f"{path} has _class_name={scheduler.get('_class_name')!r}, expected {SCHEDULER!r}; choose "
        "the directory of a ConsistencyModelPipeline.",
    )
    for key in LEVELS:
        require(
            isinstance(scheduler.get(key), int | float),
            f"{path} has {key}={scheduler.get(key)!r}, expected a number; choose the directory of "
            "a ConsistencyModelPipeline.",
        )
    levels = {key: float(scheduler[key]) for key in LEVELS}
    config, model = resolve_network(with_network(config, fields, shape, levels), ADM, "adm")
    file = weights_file(directory)
    pickled = file.suffix == ".bin"
    arrays, header = (read_torch_file(file), {}) if pickled else read_safetensors(file)
    params = import_arrays(arrays, diffusers_layout(model, shape), str(file))
    check_fingerprint(file, arrays, header, [unet, scheduler])
    return Loaded(params, config, 0)


def weights_file(directory: Path) -> Path:
    """Find the network's weights in a directory that diffusers saved.

    Raises:
      ArgumentError: there are none.
    """
    unet = directory / "unet"
    found = [unet / name for name in UNET_WEIGHTS if (unet / name).is_file()]
    require(bool(found), f"{unet} holds none of {list(UNET_WEIGHTS)}; get the directory again.")
    return found[0]


def write_diffusers(loaded: Loaded, directory: str | os.PathLike) -> epath.Path:
    """Write a directory that `diffusers.ConsistencyModelPipeline.from_pretrained` loads.

    Args:
      loaded: from `load_ema`; an ADM with c_noise_multiplier 1000, which diffusers' scheduler
        hard-codes.
      directory: new directory, on a disk or in a bucket.

    Raises:
      ArgumentError: another network, or a directory that cannot be written to.
      Diverged: a parameter is NaN or infinite.
      NotSaved: writing failed.
    """
    config, model = resolve_network(loaded.config, ADM, "adm")
    noise, shape = noise_settings(config), image_shape(config)
    require(
        model.min_group_channels == 1,
        f"this network has group norms of at least {model.min_group_channels} channels a group "
        "and diffusers' has 32 groups; export it as safetensors.",
    )
    require(
        model.c_noise_multiplier == 1000 and not is_diffusion(config),
        f"diffusers' scheduler is for consistency models whose c_noise is multiplied by 1000, and "
        f"this one has precondition {noise['name']!r} and multiplier "
        f"{model.c_noise_multiplier}; export it as safetensors.",
    )
    directory = to_path(directory)
    require(
        not directory.exists() or (directory.is_dir() and not any(directory.iterdir())),
        f"{directory} exists already and is not an empty directory; give a new one.",
    )
    writable_directory(directory.parent, "the directory")
    exported = export_arrays(loaded.params, diffusers_layout(model, shape))
    arrays = {name: np.ascontiguousarray(array) for name, array in exported.items()}
    check_finite(arrays, "the checkpoint")
    texts = {
        "unet/config.json": _unet_config(model, shape),
        "scheduler/scheduler_config.json": {
            "_class_name": SCHEDULER,
            "_diffusers_version": DIFFUSERS,
            "num_train_timesteps": noise["s1"] + 1,
            **{key: noise[key] for key in LEVELS},
            "clip_denoised": True,
            "s_noise": 1.0,
        },
        "model_index.json": {
            "_class_name": "ConsistencyModelPipeline",
            "_diffusers_version": DIFFUSERS,
            "scheduler": ["diffusers", SCHEDULER],
            "unet": ["diffusers", "UNet2DModel"],
        },
    }
    # Fingerprint the JSON as it is read back, with lists for tuples.
    read = [json.loads(json.dumps(texts[name])) for name in list(texts)[:2]]
    files = {name: f"{json.dumps(value, indent=2)}\n".encode() for name, value in texts.items()}
    files[f"unet/{UNET_WEIGHTS[0]}"] = safetensors_bytes(arrays, {"format": "pt"}, read)
    with atomic_path(directory) as whole:
        for name, content in files.items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            (whole / name).write_bytes(content)
    return directory


def _unet_config(model: ADM, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    height, width, channels = image_shape
    kinds = [
        ATTENDING if height >> level in model.attention_resolutions else PLAIN
        for level in range(len(model.channel_mult))
    ]
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": DIFFUSERS,
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": channels,
        "layers_per_block": model.num_res_blocks,
        "block_out_channels": [model.channels * factor for factor in model.channel_mult],
        "down_block_types": [blocks[0] for blocks in kinds],
        "up_block_types": [blocks[1] for blocks in reversed(kinds)],
        "attention_head_dim": model.head_channels,
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if model.scale_shift_norm else "default",
        "num_class_embeds": model.num_classes or None,
        **{name: value for name, (value, _) in ADM_IS.items()},
    }


def _adm_fields(unet: dict[str, Any], path: Path) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Convert the config of a UNet2DModel to the section `model` of an ADM and the image shape."""
    for name, (expected, default) in ADM_IS.items():
        require(
            unet.get(name, default) == expected,
            f"{path} has {name}={unet.get(name, default)!r}, expected {expected!r}: it is not the "
            "network of a released consistency model; choose another directory.",
        )
    groups = unet.get("attn_norm_num_groups")
    require(
        groups == 32 or (groups is None and unet.get("resnet_time_scale_shift") != "scale_shift"),
        f"{path} has attn_norm_num_groups={groups!r}, expected 32; choose another directory.",
    )
    try:
        size, widths = unet["sample_size"], unet["block_out_channels"]
        height, width = size if isinstance(size, list) else (size, size)
        classes = unet.get("num_class_embeds") or 0
        numbers = [height, width, *widths, unet["layers_per_block"], unet["attention_head_dim"]]
        for number in [*numbers, unet["in_channels"], classes + 1]:
            if type(number) is not int or not 1 <= number < 2**20:
                raise ValueError(f"{number!r} is no size")
        fields = {
            "channels": widths[0],
            "channel_mult": tuple(width // widths[0] for width in widths),
            "num_res_blocks": unet["layers_per_block"],
            "attention_resolutions": tuple(
                height >> level
                for level, block in enumerate(unet["down_block_types"])
                if block == ATTENDING[0]
            ),
            "head_channels": unet["attention_head_dim"],
            "scale_shift_norm": NORMS[unet.get("resnet_time_scale_shift", "default")],
            "num_classes": classes,
            "c_noise_multiplier": 1000.0,
        }
        shape = (height, width, unet["in_channels"])
        # Converted back, they must give the same network.
        ours = _unet_config(ADM(**fields), shape)
        names = ("block_out_channels", "down_block_types", "up_block_types", "out_channels")
        different = [n for n in names if list(np.ravel(unet[n])) != list(np.ravel(ours[n]))]
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ArgumentError(
            f"{path} describes no network that ADM covers ({type(error).__name__}: {error}); "
            "choose another directory."
        ) from error
    require(
        not different,
        f"{path} has {different[:1]}={[unet[name] for name in different[:1]]}, which ADM does not "
        "cover; choose another directory.",
    )
    return {"name": "adm", **fields}, shape
