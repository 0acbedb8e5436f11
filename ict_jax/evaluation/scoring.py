"""Scores of a checkpoint by a protocol, and the search for noise levels, as functions."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from ict_jax.config.network import image_shape, num_classes
from ict_jax.config.objective import finest_grid
from ict_jax.config.sampling import default_second_sigma, grid_images, is_diffusion, sigma_range
from ict_jax.config.training import ema_decay
from ict_jax.core.errors import require
from ict_jax.evaluation.against_set import AgainstSet
from ict_jax.evaluation.checkpoint import Levels, Model, labels_for, open_model
from ict_jax.evaluation.extractors import Extractor, find_extractor
from ict_jax.evaluation.extractors.base import CLASSIFIER
from ict_jax.evaluation.features import FeatureExtractor
from ict_jax.evaluation.grids import classes_in_turn, image_grid, save_png
from ict_jax.evaluation.held_out import HeldOut
from ict_jax.evaluation.protocols import HELD_OUT, Protocol, check_data, find_protocol
from ict_jax.evaluation.references import reference_of, reference_of_file
from ict_jax.evaluation.score_file import score_file, table, write_scores
from ict_jax.evaluation.scorer import Comparison, Scorer, choose_second_sigma
from ict_jax.evaluation.search import Distances, greedy_search
from ict_jax.runtime.console import progress, say
from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import is_remote, to_path, writable_directory, write_at_once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """How to score: the flags that `ict-evaluate` and `ict-search-sigmas` share.

    Attributes:
      protocol: by name, see `ict_jax.evaluation.protocols`.
      num_samples: images drawn; default: the protocol's.
      extractor: of the features, for protocols that leave it open: `inception`, `lite0` or one of
        your own.
      inception_weights: file of the FID network; default: the environment's
        ICT_INCEPTION_WEIGHTS.
      reference: the .npz of the protocol imagenet64-adm-50k.
      first_seed: seed of the first image.
      labels: as `labels_for`.
      batch_size: images drawn at once.
      data_dir: where the data of the model is, as `open_model`.
      out: directory for the results; default: the work directory of the run.
    """

    protocol: str = HELD_OUT
    num_samples: int | None = None
    extractor: str | Extractor | None = None
    inception_weights: str | None = None
    reference: str | None = None
    first_seed: int = 0
    labels: str = "even"
    batch_size: int = 256
    data_dir: str | None = None
    out: str | os.PathLike | None = None


class Prepared(NamedTuple):
    """A model and what scores it."""

    model: Model
    scorer: Scorer
    record: dict[str, Any]
    out: epath.Path


DEFAULT_LEVELS = Levels()
RESULTS = re.compile(r"evaluation|.*\.(json|png|npz)")
"""Names in the directory for results."""


def evaluate(
    checkpoint: str | os.PathLike,
    *,
    step: int | None = None,
    levels: Levels = DEFAULT_LEVELS,
    save_images: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Score a checkpoint, print the table, and write scores and grids.

      scores = evaluate("runs/digits", protocol="train-set", extractor="lite0", num_samples=2000)

    Args:
      checkpoint: work directory of a run, its checkpoints directory, or one step in it.
      step: of the checkpoint; default: the newest.
      levels: noise levels to sample at; default: one step and two steps (or a diffusion model's
        grid), the second level chosen on the validation split by the protocol held-out, and the
        config's by the others.
      save_images: also write the samples, samples_N.npz of the N-th schedule.
      **options: fields of `Request`.

    Returns:
      The record that is written to scores.json or scores_PROTOCOL.json (`write_scores`).

    Raises:
      ArgumentError: something is missing or does not fit.
      Diverged: the model's samples are not finite.
    """
    prepared = _open(checkpoint, step, Request(**options), save_images)
    return score_model(prepared, levels, save_images=save_images)


def score_model(
    prepared: Prepared, levels: Levels = DEFAULT_LEVELS, *, save_images: bool = False
) -> dict[str, Any]:
    """As `evaluate`, of a model that is open already (`prepare`)."""
    model, scorer, record, out = prepared
    protocol = record["protocol"]
    second = default_second_sigma(model.config)
    if protocol == HELD_OUT and levels == DEFAULT_LEVELS and not is_diffusion(model.config):
        low, high = sigma_range(model.config)
        second = choose_second_sigma(scorer.distance, high, low)
    schedules = levels.schedules(model.config, second)
    if "two_step" in schedules:
        record["second_sigma"] = schedules["two_step"][1]
    record["scores"] = scorer.scores(schedules)
    # The record first: it costs most.
    path = out / score_file(protocol)
    pictures = _pictures(prepared, schedules)
    with all_or_none():
        if is_main():
            write_scores(path, record)
            for name, picture in pictures.items():
                save_png(out / f"{name}.png", picture)
    for number, sigmas in enumerate(schedules.values(), 1):
        if save_images:
            scorer.save_images(sigmas, out / f"samples_{number}.npz")
        scorer.clear(sigmas)
    say(table(record))
    for name, row in record["scores"].items():
        if "warning" in row:
            say(f"NOTE, {name}: {row['warning']}")
    say(f"written: {path}, {', '.join(f'{name}.png' for name in pictures)}")
    return record


def search_sigmas(
    checkpoint: str | os.PathLike, *, step: int | None = None, steps: int = 2, **options: Any
) -> list[dict[str, Any]]:
    """Search the noise levels of multistep sampling (`greedy_search`), and write sigmas.json.

    Every distance is kept in evaluation/distances.json, so an interrupted search goes on.

    Args:
      checkpoint: as `evaluate`.
      step: of the checkpoint; default: the newest.
      steps: noise levels of the longest schedule.
      **options: fields of `Request`.

    Returns:
      The best schedule of each length, as `greedy_search`.

    Raises:
      ArgumentError: something is missing or does not fit.
    """
    require(steps >= 2, f"--steps={steps} must be at least 2; one step has nothing to search.")
    request = Request(**options)
    model, scorer, _, out = _open(checkpoint, step, request, diffusion=False)
    kept = Distances(out / "evaluation" / "distances.json")

    def distance(sigmas: Sequence[float]) -> float:
        found = kept.get(scorer.key(sigmas), lambda: scorer.distance(sigmas))
        say(f"sigmas {[round(s, 4) for s in sigmas]}: distance {found:.4f}")
        return found

    grid = finest_grid(model.config)
    schedules = greedy_search(distance, grid, steps)
    result = {
        "protocol": request.protocol,
        "step": model.step,
        "num_scales": len(grid),
        "schedules": schedules,
    }
    if is_main():
        write_at_once(out / "sigmas.json", (json.dumps(result, indent=2) + "\n").encode())
    for schedule in schedules:
        levels = ",".join(f"{sigma:.4g}" for sigma in schedule["sigmas"])
        say(f"{len(schedule['sigmas'])} steps: --sigmas={levels}  {schedule['distance']:.4f}")
    say(f"written: {out / 'sigmas.json'}")
    return schedules


def _open(
    checkpoint: str | os.PathLike,
    step: int | None,
    request: Request,
    keep_images: bool = False,
    *,
    diffusion: bool = True,
) -> Prepared:
    """Read the checkpoint, after what can be checked before."""
    protocol = find_protocol(request.protocol)
    with all_or_none():
        extractor = _extractor(request, protocol)
    with_data = protocol.reference != "file" or request.labels == "data"
    model = open_model(checkpoint, step=step, with_data=with_data, data_dir=request.data_dir)
    require(
        diffusion or not is_diffusion(model.config),
        f"--checkpoint={checkpoint} is a diffusion model, whose levels are the Karras grid; score "
        "it with ict_jax.cli.evaluate --steps=N.",
    )
    return prepare(model, request, extractor=extractor, keep_images=keep_images)


def prepare(
    model: Model,
    request: Request,
    *,
    extractor: Extractor | None = None,
    comparison: Callable[[], Comparison] | None = None,
    keep_images: bool = False,
) -> Prepared:
    """Prepare to score a model as a protocol says.

    Args:
      model: open.
      request: of the scores.
      extractor: pretrained, of the features; None for the classifier.
      comparison: gives the protocol's, where there is one already.
      keep_images: whether the samples are kept until the scores are written.
    """
    protocol = find_protocol(request.protocol)
    count = protocol.num_samples if request.num_samples is None else request.num_samples
    require(
        count >= 4, f"--num_samples={count} must be at least 4; {protocol.num_samples:,} is usual."
    )
    seeds = range(request.first_seed, request.first_seed + count)
    labels = labels_for(request.labels, seeds, model)
    with all_or_none():
        out = to_path(request.out or model.path.parent.parent)
        writable_directory(out, "--out")
        _refuse_links(out)
    say(f"scoring: step {model.step:,} of {model.path} by the protocol {protocol.name}")
    if comparison is None:
        compared = _comparison(request, protocol, extractor, model, count)
    else:
        compared = comparison()
    scorer = Scorer(
        model.sampler(min(request.batch_size, count)),
        model.params,
        compared,
        seeds,
        labels,
        directory=out / "evaluation",
        keep_images=keep_images,
    )
    record = {
        "protocol": protocol.name,
        "as_the_protocol": seeds == range(protocol.num_samples),
        "num_samples": count,
        "seeds": [seeds.start, seeds.stop - 1],
        "labels": request.labels if num_classes(model.config) else None,
        **compared.record(),
        "checkpoint": str(model.path),
        "step": model.step,
        "ema_decay": ema_decay(model.config),
    }
    return Prepared(model, scorer, record, out)


def _refuse_links(out: epath.Path) -> None:
    """Raise `ArgumentError` if results would be written through a link, in somebody else's run."""
    for path in () if is_remote(out) else Path(out).iterdir():
        require(
            not (path.is_symlink() and RESULTS.fullmatch(path.name)),
            f"{path} is a link, through which results would be written elsewhere; remove it, or "
            "give another --out.",
        )


def _pictures(prepared: Prepared, schedules: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Grids of the first seeds of each schedule, and of held-out real images."""
    model, scorer = prepared.model, prepared.scorer
    count = grid_images(model.config)
    pictures = {name: image_grid(scorer.first_images(s, count)) for name, s in schedules.items()}
    if model.dataset is not None and model.dataset.test.size:
        pictures["real"] = image_grid(classes_in_turn(model.dataset.test, count))
    return pictures


def _extractor(request: Request, protocol: Protocol) -> Extractor | None:
    """The pretrained extractor that is asked for; None for the classifier."""
    given = request.extractor
    require(
        protocol.extractor is None or given in (None, protocol.extractor),
        f"--protocol={protocol.name} compares in the features of {protocol.extractor} and "
        f"--extractor={given} was given; leave it out, or use --protocol=train-set.",
    )
    wanted = protocol.extractor or given
    require(
        wanted is not None,
        f"--protocol={protocol.name} needs --extractor: inception (its weights are a file of "
        "yours) or lite0 (pip install 'ict_jax[lite0]').",
    )
    if wanted == CLASSIFIER:
        require(
            request.inception_weights is None and request.reference is None,
            f"--inception_weights and --reference belong to other protocols than {protocol.name}; "
            "leave them out, or use --protocol=train-set.",
        )
        return None
    return find_extractor(wanted, request.inception_weights) if isinstance(wanted, str) else wanted


def _comparison(
    request: Request, protocol: Protocol, extractor: Extractor | None, model: Model, count: int
) -> Comparison:
    """The real images that the protocol compares with."""
    dataset, mesh = model.dataset, model.mesh
    if extractor is None:
        assert dataset is not None
        say("training the classifier whose features scores are measured in")
        return HeldOut(dataset, mesh, num_samples=count)
    extract = FeatureExtractor(extractor, mesh, min(request.batch_size, count))
    held_out = None if dataset is None else dataset.test.images[:count]
    if protocol.reference == "train":
        assert dataset is not None
        check_data(protocol, dataset.name, dataset.train.size, dataset.image_shape)
        name, on_progress = f"{dataset.name}, training split", progress("real images")
        reference = reference_of(name, dataset.train, extract, on_progress=on_progress)
        return AgainstSet(reference, held_out)
    require(
        request.reference is not None,
        "--reference is missing; give it, as in --reference=VIRTUAL_imagenet64_labeled.npz.",
    )
    assert protocol.image_shape is not None and request.reference is not None
    shape = image_shape(model.config)
    require(
        shape == protocol.image_shape,
        f"--protocol={protocol.name} is for images of {protocol.image_shape} and the model draws "
        f"{shape}; use --protocol=train-set.",
    )
    return AgainstSet(reference_of_file(request.reference, extract, shape), held_out)
