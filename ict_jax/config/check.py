"""Configs checked and resolved, before anything is compiled."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from ict_jax.config.network import build_bind, build_model, image_shape, num_classes
from ict_jax.config.objective import build_discretization, metric_network
from ict_jax.config.sections import Config, build_section
from ict_jax.config.training import build_dataset, build_train_step, sizes_of
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.schedules import check_sigma_range
from ict_jax.data import Dataset, places, root_mean_square, statistics_subset
from ict_jax.models import DDPMpp
from ict_jax.training.parallel import check_batch_size, make_mesh

MATMUL_PRECISIONS = (None, "default", "high", "highest")
"""Values of `config.matmul_precision`, as of `jax.default_matmul_precision`."""


def check_config(config: Config) -> None:
    """Build everything that needs no data, so that mistakes show before compilation.

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


def check_run(
    config: Config, devices: Sequence[Any] | None = None, *, with_data: bool = False
) -> tuple[Config, Mesh, Dataset | None]:
    """Check and resolve the user's own config, and remember its place of data.

    Args:
      config: from a file like those in `configs/`.
      devices: devices of the mesh; default: all of the job.
      with_data: whether to load the data even if the config `is_stated`.

    Raises:
      ArgumentError: the first mistake found.
    """
    check_config(config)
    mesh = build_section(config, "mesh", make_mesh, devices)
    sizes = sizes_of(config)
    check_batch_size(sizes.batch_size, sizes.accumulation_steps, mesh)
    dataset = build_dataset(config) if with_data or not is_stated(config) else None
    if dataset is not None:
        places.remember(config.data.get("data_dir"))
    return resolve(config, dataset), mesh, dataset


def resolve(config: Config, dataset: Dataset | None) -> Config:
    """Copy a config, filling in the values that are measured on the data.

    These are `image_shape`, and `precondition.sigma_data` if it is None: the root mean square of
    the training images in [-1, 1] (of a part of a large set). No data set is needed if the config
    states both itself (`is_stated`).

    Raises:
      ArgumentError: the data has other classes or another image shape than the config states, or
        a shape that the network cannot take.
    """
    config = config.copy_and_resolve_references()
    if dataset is not None:
        shape, classes = tuple(dataset.image_shape), num_classes(config)
        require(
            classes in (0, dataset.num_classes),
            f"config.model.num_classes={classes}, but {dataset.name} has {dataset.num_classes} "
            "classes; use that number, or 0 for an unconditional model.",
        )
        require(
            config.image_shape is None or tuple(config.image_shape) == shape,
            f"config.image_shape={config.image_shape}, but the images of {dataset.name} have "
            f"shape {shape}; leave it out, or choose another config.data.",
        )
        with config.unlocked():
            config.image_shape = shape
            if config.precondition.sigma_data is None:
                images = statistics_subset(dataset.train).images
                config.precondition.sigma_data = root_mean_square(images)
    check_resolved(config)
    return config


def resolve_network(config: Config, kind: type, name: str) -> tuple[Config, Any]:
    """Resolve a config without data, and build its network of a kind that configs call `name`.

    Raises:
      ArgumentError: a network of another kind, or the config leaves something to the data.
    """
    require(
        is_stated(config),
        f"config.image_shape={config.image_shape} and config.precondition.sigma_data="
        f"{config.precondition.sigma_data} must be stated; set them to those of the network.",
    )
    config = resolve(config, None)
    model = build_model(config)
    require(
        isinstance(model, kind) and not isinstance(model, DDPMpp),
        f"config.model.name={config.model.name!r} is another network than {name!r}, which is "
        "expected; give its config, or export as safetensors.",
    )
    return config, model


def dataset_of_checkpoint(
    config: Config, checkpoint: str, data_dir: str | None = None
) -> tuple[Config, Dataset]:
    """Load the data set of a checkpoint, and resolve its config, which may be a stranger's.

    The data is in `data_dir`, or where the config says if the user has named that place before.

    Raises:
      ArgumentError: the user has not, or the data is missing or does not fit.
    """
    config = config.copy_and_resolve_references()
    place = places.choose(config.data.get("data_dir"), data_dir, checkpoint)
    with config.unlocked(), config.ignore_type():
        config.data.data_dir = place
    dataset = build_dataset(config)
    places.remember(data_dir)
    return resolve(config, dataset), dataset


def is_stated(config: Config) -> bool:
    """Return whether the config states what is otherwise measured on the data."""
    return config.image_shape is not None and config.precondition.sigma_data is not None


def check_resolved(config: Config) -> None:
    """Raise `ArgumentError` if the network or the scalings do not fit the data."""
    disc = config.discretization
    check_sigma_range(disc.sigma_min, disc.sigma_max, disc.rho)
    build_bind(config)(None, None, None)
    require(
        metric_network(config) is None or config.image_shape[-1] == 3,
        f"config.objective.metric='lpips' compares images of 3 channels, and these have shape "
        f"{tuple(config.image_shape)}; use squared_l2, or other data.",
    )
    model: Any = build_model(config)
    try:
        model.check_image_shape(image_shape(config))
    except ValueError as error:
        raise ArgumentError(f"config.model: {error}") from error
