"""What the commands share that score a checkpoint."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from ict_jax.cli import common
from ict_jax.core.errors import require
from ict_jax.evaluation.protocols import HELD_OUT, NAMES

if TYPE_CHECKING:
    from etils import epath

    from ict_jax.config.training import Config
    from ict_jax.data import Dataset

RESULTS = re.compile(r"evaluation|.*\.(json|png|npz)")
"""What is written into the directory for results, which may be somebody else's run."""

GRID = "ict_jax.cli.evaluate --protocol=train-set --steps=N: its levels are the Karras grid"
"""What a diffusion model is scored by."""


class Model(NamedTuple):
    """A checkpoint, ready to be sampled.

    Attributes:
      mesh: all devices.
      params: averaged.
      config: resolved where there is a data set.
      step: of the checkpoint.
      dataset: of the model; None where it was not asked for.
      out: where results go.
    """

    mesh: Any
    params: Any
    config: "Config"
    step: int
    dataset: "Dataset | None"
    out: "epath.Path"


def define_flags(values: flags.FlagValues) -> None:
    """The flags of drawing and comparing."""
    common.define_checkpoint(values)
    flags.DEFINE_string(
        "protocol", HELD_OUT, f"{', '.join(NAMES[:-1])} or {NAMES[-1]}.", flag_values=values
    )
    flags.DEFINE_integer(
        "num_samples",
        None,
        "Images drawn (default: held-out 5,000, by protocol 50,000).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "extractor",
        None,
        "Network of the features: inception (gives FID) or lite0 (default: the protocol's).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "inception_weights",
        None,
        "File of the FID network (default: the environment's ICT_INCEPTION_WEIGHTS).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "reference",
        None,
        "The .npz of the protocol imagenet64-adm-50k.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where the data of the model is (default: where its run had it, if on this machine; where "
        "the checkpoint of somebody else says, nothing is read).",
        flag_values=values,
    )
    flags.DEFINE_integer("first_seed", 0, "Seed of the first image.", flag_values=values)
    flags.DEFINE_string(
        "labels",
        "even",
        "Classes of a class-conditional model: even (seed modulo the number of classes), data (as "
        "often as in the training set), one class for all, or one per seed, as in 0,1,2.",
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 256, "Images drawn at once.", flag_values=values)
    flags.DEFINE_string(
        "out",
        None,
        "Directory for the results (default: the work directory of the run).",
        flag_values=values,
    )


def start() -> None:
    """Joins the job, if this process is one of several; before anything else of JAX."""
    from ict_jax.runtime import processes  # late: --help and mistakes answer at once
    from ict_jax.runtime.storage import keep_compiled

    processes.initialize()
    keep_compiled()


def open_model(
    values: flags.FlagValues, *, with_data: bool, diffusion_use: str | None = None
) -> Model:
    """Reads the checkpoint that the flags name, and makes the directory for results.

    Args:
      values: parsed flags.
      with_data: whether the data set of the model is read.
      diffusion_use: what to use instead for a diffusion model, where these are refused.

    Raises:
      ArgumentError: there is none, or its data set does not fit.
    """
    from ict_jax.checkpoints import load_ema, locate
    from ict_jax.config.check import dataset_of_checkpoint
    from ict_jax.config.sampling import (  # late: --help and mistakes answer at once
        is_diffusion,
    )
    from ict_jax.runtime import processes
    from ict_jax.runtime.storage import is_remote, to_path, writable_directory
    from ict_jax.training import parallel

    checkpoint = common.value(values, "checkpoint")
    mesh = parallel.make_mesh()
    with processes.together():
        params, config, step = load_ema(
            checkpoint,
            step=common.value(values, "step"),
            sharding=parallel.replicated(mesh),
            what="--checkpoint",
        )
        require(
            diffusion_use is None or not is_diffusion(config),
            f"--checkpoint={checkpoint} is a diffusion model, and this command, as asked, scores "
            f"consistency models; use {diffusion_use}.",
        )
        dataset, data_dir = None, common.value(values, "data_dir")
        require(
            with_data or data_dir is None,
            f"--data_dir={data_dir} was given, and these scores need no data of the model; leave "
            "it out.",
        )
        if with_data:
            config, dataset = dataset_of_checkpoint(config, checkpoint, data_dir)
        # A step stands in the checkpoints directory of its work directory.
        out = to_path(common.value(values, "out") or locate(checkpoint).parent.parent)
        writable_directory(out, "--out")
        for path in () if is_remote(out) else Path(out).iterdir():
            require(
                not (path.is_symlink() and RESULTS.fullmatch(path.name)),
                f"{path} is a link, through which results would be written elsewhere; remove it, "
                "or give another --out.",
            )
    return Model(mesh, params, config, step, dataset, out)


def labels_of(text: str, seeds: range, model: Model) -> Any:
    """One class per seed, or None for the sampler's.

    Raises:
      ArgumentError: the model has not these classes.
    """
    from ict_jax.config.network import num_classes
    from ict_jax.data import measured_part
    from ict_jax.evaluation.seed_labels import labels_as_in

    if text == "even":
        return None
    classes = num_classes(model.config)
    require(classes > 0, f"--labels={text} was given and the model is unconditional; leave it out.")
    if text == "data":
        assert model.dataset is not None
        counts = np.bincount(measured_part(model.dataset.train).labels, minlength=classes)
        return labels_as_in(seeds, counts)
    labels = common.parse_labels(text, len(seeds))
    require(
        0 <= min(labels) and max(labels) < classes,
        f"--labels={text} must be classes of the model, 0 to {classes - 1}.",
    )
    return np.asarray(labels, np.int32)


def open_held_out(
    values: flags.FlagValues,
) -> tuple[Model, Callable[[Sequence[float]], float], Callable[[Sequence[float]], str]]:
    """The model, its distance to the validation split, and a key for each distance.

    Raises:
      ArgumentError: there is no checkpoint, or its data set does not fit.
    """
    from ict_jax.config.sampling import (  # late: --help and mistakes answer at once
        build_draw,
        sampler_arguments,
    )
    from ict_jax.evaluation.held_out import Scorer
    from ict_jax.evaluation.sampler import Sampler
    from ict_jax.training.parallel import fingerprint_of

    start()
    model = open_model(values, with_data=True, diffusion_use=GRID)
    assert model.dataset is not None
    count = common.value(values, "num_samples")
    scorer = Scorer(model.dataset, num_samples=5000 if count is None else count)
    first = common.value(values, "first_seed")
    seeds = range(first, first + scorer.num_samples)
    labels = labels_of(common.value(values, "labels"), seeds, model)
    sampler = Sampler(
        build_draw(model.config),
        model.mesh,
        **sampler_arguments(model.config),
        batch_size=common.value(values, "batch_size"),
    )
    marks = [fingerprint_of(model.params), seeds, common.value(values, "labels")]

    def distance(sigmas: Sequence[float]) -> float:
        batches = sampler.batches(model.params, seeds, sigmas, labels)
        return scorer.validation_distance(np.concatenate(list(batches)))

    return model, distance, lambda sigmas: f"held-out {marks} {list(sigmas)}"


def check_held_out(values: flags.FlagValues, names: Sequence[str] = ()) -> None:
    """Raises `ArgumentError` if a flag was given that belongs to scores by protocol.

    Args:
      values: parsed flags.
      names: of the command's own among them.
    """
    for name in ("extractor", "inception_weights", "reference", *names):
        require(
            values[name].value == values[name].default,
            f"--{name} belongs to scores by protocol, and --protocol=held-out is asked for; leave "
            "it out, or use --protocol=train-set.",
        )


def schedules(
    config: "Config", sigmas: str | None, second_sigma: float | None, steps: int | None
) -> dict[str, Sequence[float]]:
    """Sets of noise levels to score, by name.

    Args:
      config: resolved.
      sigmas: as given; default: one step and two steps.
      second_sigma: of two steps; default: the config's.
      steps: of the Karras grid, for diffusion models.

    Raises:
      ArgumentError: several of them are given.
    """
    from ict_jax.config.sampling import grid, is_diffusion

    require(
        sum(value is not None for value in (sigmas, second_sigma, steps)) <= 1,
        "--sigmas, --second_sigma and --steps all say at which levels to sample; give one of them.",
    )
    if sigmas is not None:
        levels = common.parse_sigmas(sigmas)
        return {f"{len(levels)} levels": levels}
    if steps is not None or is_diffusion(config):
        levels = grid(config, steps)
        return {f"{len(levels)} levels": levels}
    first = config.discretization.sigma_max
    second = config.sampling.second_sigma if second_sigma is None else second_sigma
    return {"one step": (first,), "two steps": (first, second)}
