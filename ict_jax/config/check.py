"""Configs checked, resolved and compared, before anything is compiled."""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh

from ict_jax.config.network import build_bind, build_model, num_classes
from ict_jax.config.objective import build_discretization, metric_network
from ict_jax.config.training import Config, build_dataset, build_train_step
from ict_jax.core.errors import ArgumentError, require
from ict_jax.data import Dataset, measured_part, places, root_mean_square
from ict_jax.training.parallel import check_batch_size

RESULT_FREE = ("mesh", "pipeline", "logging", "evaluation", "checkpointing", "sampling")
"""Sections that do not change the trained parameters; a resumed run may change them."""

COMPUTE_ONLY = (
    *("data.in_memory", "model.remat", "model.scan_blocks"),
    *("lpips.vgg_weights", "lpips.linear_weights"),  # which the state holds
)
"""Other keys of which the same holds, to rounding."""


FUNCTION_FREE = (
    *("dropout", "dropout_max_resolution"),  # of training alone
    "fourier_scale",  # of the first values of frequencies that are among the parameters
    *("dtype", "remat", "scan_blocks"),  # how it is computed: to rounding
)
"""Fields of a network with which the same parameters are the same function."""

TRIGFLOW = "trigflow"
"""The precondition whose network means something else than that of all others."""

ADDED = {
    "discretization.curriculum": "doubling",
    "discretization.noise_law": "lognormal",
    "optimizer.name": "radam",
    "optimizer.warm_up_steps": 0,
    "objective.metric": "pseudo_huber",
    "objective.weight": "inverse_gap",
}
"""Values that the first versions, whose configs lack these keys, had in effect."""

MATMUL_PRECISIONS = (None, "default", "high", "highest")
"""As `jax.default_matmul_precision` takes them."""


def check_config(config: Config) -> None:
    """Builds every part that needs no data, so that mistakes show before compilation.

    Raises:
      ArgumentError: the first mistake found.
    """
    for name, least in {"seed": 0, "total_steps": 0, "batch_size": 1}.items():
        value = config[name]
        require(
            isinstance(value, int) and least <= value < 2**32,
            f"config.{name}={value!r} must be a whole number from {least} to 2^32 - 1; choose "
            "another.",
        )
    require(
        config.matmul_precision in MATMUL_PRECISIONS,
        f"config.matmul_precision={config.matmul_precision!r} must be None or one of "
        f"{list(MATMUL_PRECISIONS[1:])}.",
    )
    require(
        not jax.config.values["jax_enable_x64"],
        "jax_enable_x64 is on, and training is of 32 bits; switch it off by "
        "jax.config.update('jax_enable_x64', False), as the commands do.",
    )
    build_discretization(config)
    build_train_step(config)


def resolve(config: Config, dataset: Dataset | None) -> Config:
    """A copy of the config in which what comes from the data is filled in.

    `image_shape`, and `precondition.sigma_data` where it is None: the root mean square of the
    training images in [-1, 1] (of a large set, of a part).

    Args:
      config: as made by a file in `configs/`.
      dataset: the data; None if the config states both values itself (`is_stated`).

    Raises:
      ArgumentError: the images have another shape than the config states, or one that the
        network does not take.
    """
    config = config.copy_and_resolve_references()
    if dataset is not None:
        shape = tuple(dataset.image_shape)
        require(
            config.image_shape is None or tuple(config.image_shape) == shape,
            f"config.image_shape={config.image_shape}, but the images of {dataset.name} have "
            f"shape {shape}; leave it out, or choose another config.data.",
        )
        with config.unlocked():
            config.image_shape = shape
            if config.precondition.sigma_data is None:
                images = measured_part(dataset.train).images
                config.precondition.sigma_data = root_mean_square(images)
    check_resolved(config)
    return config


def dataset_of_checkpoint(
    config: Config, checkpoint: str, data_dir: str | None = None
) -> tuple[Config, Dataset]:
    """The data set of a checkpoint, from a place that the user has named, and the config with it.

    Args:
      config: of the checkpoint; whoever made that may have written anything into it.
      checkpoint: as the user gave it.
      data_dir: where the data is, as the user says; default: where the config says, if the user
        has named that place before.

    Raises:
      ArgumentError: the user has not, or the data is not there or does not fit.
    """
    config = config.copy_and_resolve_references()
    place = places.choose(config.data.get("data_dir"), data_dir, checkpoint)
    with config.unlocked(), config.ignore_type():
        config.data.data_dir = place
    dataset = build_dataset(config)
    places.remember(data_dir)
    check_classes(config, dataset)
    return resolve(config, dataset), dataset


def is_stated(config: Config) -> bool:
    """Whether the config says itself what otherwise comes from the data."""
    return config.image_shape is not None and config.precondition.sigma_data is not None


def check_resolved(config: Config) -> None:
    """Raises `ArgumentError` if the network or the scalings do not take what the data gave."""
    build_bind(config)(None, None, None)
    require(
        metric_network(config) is None or config.image_shape[-1] == 3,
        f"config.objective.metric='lpips' compares images of 3 channels, and these have shape "
        f"{tuple(config.image_shape)}; use squared_l2, or other data.",
    )
    model: Any = build_model(config)
    try:
        model.check_image_shape(tuple(config.image_shape))
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error


def differing_keys(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ, result-free sections left out."""
    found = []
    for key in sorted(set(old) | set(new)):
        if (not prefix and key in RESULT_FREE) or prefix + key in COMPUTE_ONLY:
            continue
        before = ADDED.get(prefix + key)
        a, b = old.get(key, before), new.get(key, before)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} ({a!r} -> {b!r})")
    return found


def differing_function(theirs: Config, ours: Config) -> list[str]:
    """Dotted names of the keys by which the same parameters are another function.

    What the configs leave out is as the network has it. A boundary at sigma_min and one at 0 may
    differ: consistency models start from diffusion models.

    Args:
      theirs: resolved, of the parameters.
      ours: resolved, of the network that they go into.
    """
    a, b = build_model(theirs), build_model(ours)
    pairs = {f"model.{key}": (_field(a, key), _field(b, key)) for key in _fields(a) & _fields(b)}
    if not (isinstance(a, type(b)) or isinstance(b, type(a))):
        pairs = {"model.name": (theirs.model.name, ours.model.name)}
    found, wanted = theirs.precondition, ours.precondition
    for key in {"sigma_data", "sigma_min"} & set(found) & set(wanted):
        if not math.isclose(found[key], wanted[key], rel_tol=1e-6):
            pairs[f"precondition.{key}"] = (found[key], wanted[key])
    if (found.name == TRIGFLOW) != (wanted.name == TRIGFLOW):
        pairs["precondition.name"] = (found.name, wanted.name)
    return [f"{name} ({x!r} -> {y!r})" for name, (x, y) in sorted(pairs.items()) if x != y]


def _fields(model: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(model)} - {"name", "parent", *FUNCTION_FREE}


def _field(model: Any, name: str) -> Any:
    value = getattr(model, name)
    return tuple(value) if isinstance(value, list) else value  # as JSON has it


def check_batch(config: Config, mesh: Mesh) -> None:
    """Raises `ArgumentError` unless the batch can be cut over devices and accumulation."""
    check_batch_size(config.batch_size, config.training.accumulation_steps, mesh)


def check_classes(config: Config, dataset: Dataset) -> None:
    """Raises `ArgumentError` if the network has other classes than the data."""
    classes = num_classes(config)
    require(
        classes in (0, dataset.num_classes),
        f"config.model.num_classes={classes}, but {dataset.name} has {dataset.num_classes} "
        "classes; use that number, or 0 for an unconditional model.",
    )
