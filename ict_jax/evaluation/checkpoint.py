"""A checkpoint opened to be sampled from and scored."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jax.sharding import Mesh

from ict_jax.checkpoints import load_ema, locate
from ict_jax.config.check import dataset_of_checkpoint
from ict_jax.config.network import num_classes
from ict_jax.config.sampling import build_draw, is_diffusion, karras_levels, sampler_arguments
from ict_jax.config.sections import Config
from ict_jax.core.errors import require
from ict_jax.data import Dataset, statistics_subset
from ict_jax.evaluation.sampler import Sampler
from ict_jax.evaluation.seed_labels import proportional_labels
from ict_jax.runtime.processes import all_or_none
from ict_jax.training.parallel import make_mesh, replicated
from ict_jax.training.state import Params


class Model(NamedTuple):
    """A checkpoint, ready to be sampled from.

    Attributes:
      path: directory of the checkpoint.
      mesh: all devices.
      params: EMA parameters.
      config: config of the run, resolved if there is a data set.
      step: step of the checkpoint.
      dataset: data set of the model; None if it was not asked for.
    """

    path: epath.Path
    mesh: Mesh
    params: Params
    config: Config
    step: int
    dataset: Dataset | None

    def sampler(self, batch_size: int) -> Sampler:
        """Build the sampler of its images."""
        draw, arguments = build_draw(self.config), sampler_arguments(self.config)
        return Sampler(draw, self.mesh, **arguments, batch_size=batch_size)


def open_model(
    checkpoint: str | os.PathLike,
    *,
    step: int | None = None,
    with_data: bool = False,
    data_dir: str | None = None,
) -> Model:
    """Read a checkpoint onto all devices.

    Args:
      checkpoint: work directory of a run, its checkpoints directory, or one step in it.
      step: step of the checkpoint; default: the newest.
      with_data: whether to read the data set of the model.
      data_dir: directory of the data; default: the config's, if the user has named it before
        (`dataset_of_checkpoint`).

    Raises:
      ArgumentError: there is no such checkpoint, or its data set does not fit.
    """
    mesh = make_mesh()
    with all_or_none():
        params, config, step = load_ema(
            checkpoint, step=step, sharding=replicated(mesh), what="--checkpoint"
        )
        require(
            with_data or data_dir is None,
            f"--data_dir={data_dir} was given, and these scores need no data of the model; leave "
            "it out.",
        )
        dataset = None
        if with_data:
            config, dataset = dataset_of_checkpoint(config, str(checkpoint), data_dir)
    return Model(locate(checkpoint, step=step), mesh, params, config, step, dataset)


def parse_labels(labels: str, seeds: range, model: Model) -> np.ndarray | None:
    """Return one class per seed, or None for the sampler's default.

    Args:
      labels: `even` (seed modulo the number of classes), `data` (as frequent as in the training
        set), one class for all seeds, or one per seed, as in `0,1,2`.
      seeds: one per image.
      model: the model, with its data set for `data`.

    Raises:
      ArgumentError: the model does not have these classes.
    """
    if labels == "even":
        return None
    classes = num_classes(model.config)
    require(
        classes > 0, f"--labels={labels} was given and the model is unconditional; leave it out."
    )
    if labels == "data":
        assert model.dataset is not None
        counts = np.bincount(statistics_subset(model.dataset.train).labels, minlength=classes)
        return proportional_labels(seeds, counts)
    parts = labels.split(",")
    require(
        all(part.isdecimal() for part in parts) and len(parts) in (1, len(seeds)),
        f"--labels={labels} is not one class, or one for each of {len(seeds)} seeds; separate them "
        "by commas, as in 0,1,2.",
    )
    found = [int(part) for part in parts]
    require(
        max(found) < classes,
        f"--labels={labels} must be classes of the model, 0 to {classes - 1}.",
    )
    return np.broadcast_to(np.asarray(found, np.int32), len(seeds))


@dataclasses.dataclass(frozen=True)
class Levels:
    """Noise levels asked for; at most one of the fields is given.

    Attributes:
      sigmas: descending noise levels.
      second_sigma: second level of two-step samples.
      steps: number of levels of the Karras grid.
    """

    sigmas: Sequence[float] | None = None
    second_sigma: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        """Raise `ArgumentError` if several are given."""
        given = [f"--{name}" for name, value in vars(self).items() if value is not None]
        require(
            len(given) <= 1,
            f"{' and '.join(given)} both say at which levels to sample; give one of them.",
        )

    def single_schedule(self, config: Config) -> tuple[float, ...]:
        """Return the levels of one schedule; default: one step, or a diffusion model's grid."""
        if self.sigmas is not None:
            return tuple(self.sigmas)
        return karras_levels(config, self.steps)

    def schedules(self, config: Config, second_sigma: float) -> dict[str, tuple[float, ...]]:
        """Return the noise levels to score by name; default: `one_step` and `two_step`.

        Args:
          config: resolved.
          second_sigma: default of the second level of `two_step`.
        """
        if self.sigmas is None and self.steps is None and not is_diffusion(config):
            (first,) = karras_levels(config, 1)
            second = second_sigma if self.second_sigma is None else self.second_sigma
            return {"one_step": (first,), "two_step": (first, second)}
        require(
            self.second_sigma is None,
            "--second_sigma was given for a diffusion model, which has no two-step samples; leave "
            "it out, or give --steps.",
        )
        levels = self.single_schedule(config)
        name = {1: "one_step", 2: "two_step"}.get(len(levels), f"{len(levels)}_steps")
        return {"heun" if is_diffusion(config) else name: levels}
