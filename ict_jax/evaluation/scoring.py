"""Scoring a checkpoint by a protocol, and the search for noise levels, as functions."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from ict_jax.config.network import num_classes
from ict_jax.config.objective import finest_grid
from ict_jax.config.sampling import default_second_sigma, grid_images, is_diffusion, sigma_range
from ict_jax.config.training import ema_decay
from ict_jax.core.errors import require
from ict_jax.evaluation.checkpoint import Levels, Model, open_model, parse_labels
from ict_jax.evaluation.extractors import Extractor
from ict_jax.evaluation.grids import cycle_classes, image_grid, save_png
from ict_jax.evaluation.protocols import HELD_OUT_PROTOCOL, find_protocol
from ict_jax.evaluation.request import Request
from ict_jax.evaluation.score_file import score_file, score_table, write_json
from ict_jax.evaluation.scorer import Comparison, Scorer, choose_second_sigma
from ict_jax.evaluation.search import DistanceCache, greedy_search
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import is_remote, to_path, writable_directory


class Prepared(NamedTuple):
    """A model, its scorer, the record of its scores to be, and the directory for results."""

    model: Model
    scorer: Scorer
    record: dict[str, Any]
    out: epath.Path


DEFAULT_LEVELS = Levels()
RESULTS = re.compile(r"evaluation|.*\.(json|png|npz)")
"""Names of results in their directory."""


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
      step: step of the checkpoint; default: the newest.
      levels: noise levels to sample at; default: one step and two steps (or a diffusion model's
        grid). The second level is chosen on the validation split for the protocol held-out, and
        the config's for the others.
      save_images: whether to write the samples too, samples_N.npz for the N-th schedule.
      **options: fields of `Request`.

    Returns:
      The record written to scores.json or scores_PROTOCOL.json (`ict_jax.evaluation.score_file`).

    Raises:
      ArgumentError: something is missing or does not fit.
      Diverged: the model's samples are not finite.
    """
    request = Request(**options)
    model, extractor = _open(checkpoint, step, request)
    prepared = prepare(model, request, extractor=extractor, keep_images=save_images)
    return score_model(prepared, levels, save_images=save_images)


def score_model(
    prepared: Prepared, levels: Levels = DEFAULT_LEVELS, *, save_images: bool = False
) -> dict[str, Any]:
    """Score a model from `prepare`, as `evaluate` does."""
    model, scorer, record, out = prepared
    second = default_second_sigma(model.config)
    is_default = levels == DEFAULT_LEVELS and not is_diffusion(model.config)
    if record["protocol"] == HELD_OUT_PROTOCOL and is_default:
        low, high = sigma_range(model.config)
        second = choose_second_sigma(scorer.distance, high, low)
    schedules = levels.schedules(model.config, second)
    if "two_step" in schedules:
        record["second_sigma"] = schedules["two_step"][1]
    record["scores"] = scorer.scores(schedules)
    # Write the record before the images: it cost the most.
    path = out / score_file(record["protocol"])
    grids = _draw_grids(prepared, schedules)
    with all_or_none():
        if is_main():
            write_json(path, record)
            for name, grid in grids.items():
                save_png(out / f"{name}.png", grid)
    for number, sigmas in enumerate(schedules.values(), 1):
        if save_images:
            scorer.save_images(sigmas, out / f"samples_{number}.npz")
        scorer.clear(sigmas)
    say(score_table(record))
    for name, row in record["scores"].items():
        if "warning" in row:
            say(f"NOTE, {name}: {row['warning']}")
    say(f"written: {path}, {', '.join(f'{name}.png' for name in grids)}")
    return record


def search_sigmas(
    checkpoint: str | os.PathLike, *, step: int | None = None, steps: int = 2, **options: Any
) -> list[dict[str, Any]]:
    """Search the noise levels of multistep sampling (`greedy_search`), and write sigmas.json.

    Every distance is kept in evaluation/distances.json, so an interrupted search resumes. The
    longest schedule has `steps` noise levels; the other arguments are those of `evaluate`.

    Returns:
      The best schedule of each length, as `greedy_search`.

    Raises:
      ArgumentError: something is missing or does not fit.
    """
    require(steps >= 2, f"--steps={steps} must be at least 2; one step has nothing to search.")
    request = Request(**options)
    model, extractor = _open(checkpoint, step, request)
    require(
        not is_diffusion(model.config),
        f"--checkpoint={checkpoint} is a diffusion model, whose levels are the Karras grid; score "
        "it with ict_jax.cli.evaluate --steps=N.",
    )
    _, scorer, _, out = prepare(model, request, extractor=extractor)
    cache = DistanceCache(out / "evaluation" / "distances.json")

    def distance(sigmas: Sequence[float]) -> float:
        found = cache.get(scorer.key(sigmas), lambda: scorer.distance(sigmas))
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
        write_json(out / "sigmas.json", result)
    for schedule in schedules:
        levels = ",".join(f"{sigma:.4g}" for sigma in schedule["sigmas"])
        say(f"{len(schedule['sigmas'])} steps: --sigmas={levels}  {schedule['distance']:.4f}")
    say(f"written: {out / 'sigmas.json'}")
    return schedules


def _open(
    checkpoint: str | os.PathLike, step: int | None, request: Request
) -> tuple[Model, Extractor | None]:
    """Open the checkpoint and the extractor, the extractor first since its checks are cheap."""
    protocol = find_protocol(request.protocol)
    with all_or_none():
        extractor = request.load_extractor()
    with_data = protocol.reference != "file" or request.labels == "data"
    model = open_model(checkpoint, step=step, with_data=with_data, data_dir=request.data_dir)
    return model, extractor


def prepare(
    model: Model,
    request: Request,
    *,
    extractor: Extractor | None = None,
    comparison: Callable[[], Comparison] | None = None,
    keep_images: bool = False,
) -> Prepared:
    """Prepare to score a model as requested.

    Args:
      model: the open model.
      request: options of the scores.
      extractor: from `Request.load_extractor`.
      comparison: returns the comparison with real images; default: it is loaded.
      keep_images: whether to keep the samples until the scores are written.

    Raises:
      ArgumentError: the options do not fit the model, or the results cannot be written.
    """
    protocol = find_protocol(request.protocol)
    count = protocol.num_samples if request.num_samples is None else request.num_samples
    require(
        count >= 4, f"--num_samples={count} must be at least 4; {protocol.num_samples:,} is usual."
    )
    seeds = range(request.first_seed, request.first_seed + count)
    labels = parse_labels(request.labels, seeds, model)
    with all_or_none():
        out = to_path(request.out or model.path.parent.parent)
        writable_directory(out, "--out")
        _refuse_links(out)
    say(f"scoring: step {model.step:,} of {model.path} by the protocol {protocol.name}")
    compared = comparison() if comparison else request.load_comparison(model, extractor, count)
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
    """Raise `ArgumentError` if a link in the directory would redirect results elsewhere."""
    for path in () if is_remote(out) else Path(out).iterdir():
        require(
            not (path.is_symlink() and RESULTS.fullmatch(path.name)),
            f"{path} is a link, through which results would be written elsewhere; remove it, or "
            "give another --out.",
        )


def _draw_grids(prepared: Prepared, schedules: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Draw grids of the first seeds of each schedule, and of held-out real images."""
    model, scorer = prepared.model, prepared.scorer
    count = grid_images(model.config)
    grids = {name: image_grid(scorer.first_images(s, count)) for name, s in schedules.items()}
    if model.dataset is not None and model.dataset.test.size:
        grids["real"] = image_grid(cycle_classes(model.dataset.test, count))
    return grids
