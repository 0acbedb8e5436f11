"""What a run left in its work directory, on a disk or in a bucket."""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from ict_jax.checkpoints.directory import DIRECTORY, is_whole
from ict_jax.config.objective import build_discretization, has_levels
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.schedules import Stage
from ict_jax.evaluation.score_file import HELD_OUT_FILE, as_record
from ict_jax.run.provenance import read_starts
from ict_jax.run.report.events import Curve, read_scalars
from ict_jax.run.report.png import PngImage, read_png
from ict_jax.runtime.storage import failures, to_path

SHOWN_STEPS = 12
"""At so many steps sample grids are shown; of more, these are chosen equally far apart."""

PAPER_SIGMA_RANGE = (0.002, 80.0)
"""Taken where the config does not say."""

SCORES_NAME = re.compile(r"scores(_.*)?\.json")
GRID_NAME = re.compile(r"(one_step|two_step|heun)_(\d+)\.png")


@dataclasses.dataclass(frozen=True)
class Left:
    """What a run left.

    Attributes:
      name: of the work directory.
      config: as stored, resolved.
      total_steps: K.
      step: the newest that was saved or logged.
      finished: whether the newest checkpoint, or without any the newest log, is of the last step.
      stages: of the curriculum N(k); none if the config does not say.
      sigma_range: smallest and largest noise level.
      scalars: what was logged.
      samples: grids by step and then by kind, `one_step`, `two_step` or `heun`; steps ascending.
      steps_with_samples: how many steps there are grids of, shown or not.
      pictures: by name: `one_step`, `two_step`, `heun` and `real` of the scores, and `data`.
      starts: what it was started with, oldest first.
      scores: the content of the files of scores by their names, `HELD_OUT_FILE` first.
      notes: what could not be read, one sentence each.
    """

    name: str
    config: dict[str, Any]
    total_steps: int
    step: int
    finished: bool
    stages: list[Stage]
    sigma_range: tuple[float, float]
    scalars: dict[str, Curve]
    samples: dict[int, dict[str, PngImage]]
    steps_with_samples: int
    pictures: dict[str, PngImage]
    starts: list[dict[str, Any]]
    scores: dict[str, dict[str, Any]]
    notes: list[str]

    def section(self, name: str) -> dict[str, Any]:
        """A section of the config, empty if there is none."""
        section = self.config.get(name)
        return section if isinstance(section, dict) else {}

    @property
    def held_out_scores(self) -> dict[str, Any]:
        """Those against held-out images, empty if there are none."""
        return self.scores.get(HELD_OUT_FILE, {})

    @property
    def num_scales(self) -> int:
        """N of the newest step; there must be stages."""
        return [n for first, n in self.stages if first < max(self.step, 1)][-1]


def read_run(workdir: str | os.PathLike) -> Left:
    """Reads everything that a page about a run shows.

    What is missing or cannot be read, the config aside, becomes a note.

    Raises:
      ArgumentError: there is no run in `workdir`.
    """
    path = to_path(workdir)
    try:
        return _read_run(path)
    except failures() as error:
        raise ArgumentError(
            f"--workdir={path} cannot be read ({error}); check its permissions and the disk."
        ) from error


def _read_run(path: epath.Path) -> Left:
    require(path.exists(), f"--workdir={path} does not exist; give the work directory of a run.")
    require(path.is_dir(), f"--workdir={path} is a file; give the work directory of a run.")
    require(
        (path / "config.json").exists(),
        f"--workdir={path} holds no run, since there is no config.json; give the --workdir of "
        "ict_jax.cli.train.",
    )
    notes: list[str] = []
    config = _config(path / "config.json")
    files = {file.name: file for file in path.iterdir()}
    starts = read_starts(path)
    scalars = read_scalars([f for n, f in files.items() if "tfevents" in n], starts, notes)
    saved = _newest_checkpoint(path / DIRECTORY)
    logged = max((max(curve) for curve in scalars.values()), default=0)
    stages, sigma_range = _noise_levels(config, notes)
    samples, count = _samples(path / "samples", notes)
    pictures = {
        name: picture
        for name in ("one_step", "two_step", "heun", "real", "data")
        if f"{name}.png" in files and (picture := _picture(files[f"{name}.png"], notes)) is not None
    }
    return Left(
        name=path.name or str(path),
        config=config,
        total_steps=config["total_steps"],
        step=max(saved or 0, logged),
        finished=(logged if saved is None else saved) >= config["total_steps"],
        stages=stages,
        sigma_range=sigma_range,
        scalars=scalars,
        samples=samples,
        steps_with_samples=count,
        pictures=pictures,
        starts=starts,
        scores=_scores(files, notes),
        notes=notes,
    )


def _config(path: epath.Path) -> dict[str, Any]:
    try:
        config = _json_object(path)
        steps = config.get("total_steps")
        if not isinstance(steps, int):
            raise ValueError(f"total_steps is {steps!r}")
    except (*failures(), ValueError) as error:
        raise ArgumentError(
            f"{path} is not the config of a run ({error}); start the run again, which writes it "
            "anew, or copy it again."
        ) from error
    return config


def _json_object(path: epath.Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected an object")
    return value


def _newest_checkpoint(directory: epath.Path) -> int | None:
    if not directory.is_dir():
        return None
    steps = [int(p.name) for p in directory.iterdir() if p.name.isdecimal() and is_whole(p)]
    return max(steps, default=None)


def _noise_levels(
    config: dict[str, Any], notes: list[str]
) -> tuple[list[Stage], tuple[float, float]]:
    """The stages of N(k), and the smallest and the largest level."""
    try:
        disc = build_discretization(ConfigDict(config))
        counted = has_levels(ConfigDict(config))
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
        notes.append(f"N(k) cannot be reckoned from config.json ({error}).")
        return [], PAPER_SIGMA_RANGE
    steps_and_levels = zip(disc.first_steps, disc.num_scales, strict=True)
    stages = [Stage(int(step), int(levels)) for step, levels in steps_and_levels]
    return stages if counted else [], (float(disc.sigmas.min()), float(disc.sigmas.max()))


def _samples(directory: epath.Path, notes: list[str]) -> tuple[dict[int, dict[str, PngImage]], int]:
    """Grids of the steps that are shown, and how many steps there are."""
    files: dict[int, dict[str, epath.Path]] = {}
    for file in directory.iterdir() if directory.is_dir() else ():
        if match := GRID_NAME.fullmatch(file.name):
            files.setdefault(int(match[2]), {})[match[1]] = file
    samples: dict[int, dict[str, PngImage]] = {}
    for step in _spread(sorted(files), SHOWN_STEPS):
        for kind, file in sorted(files[step].items()):
            if (picture := _picture(file, notes)) is not None:
                samples.setdefault(step, {})[kind] = picture
    return samples, len(files)


def _spread(items: list[int], most: int) -> list[int]:
    """At most so many items, equally far apart, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _picture(path: epath.Path, notes: list[str]) -> PngImage | None:
    return _noted(path, lambda: read_png(path.read_bytes()), notes)


def _scores(files: dict[str, epath.Path], notes: list[str]) -> dict[str, dict[str, Any]]:
    names = [name for name in files if SCORES_NAME.fullmatch(name)]
    names.sort(key=lambda name: (name != HELD_OUT_FILE, name))
    read = {
        name: _noted(files[name], lambda at=files[name]: as_record(_json_object(at)), notes)
        for name in names
    }
    return {name: scores for name, scores in read.items() if scores is not None}


def _noted(path: epath.Path, read: Callable[[], Any], notes: list[str]) -> Any:
    """What `read` returns; None, and a note, where the file is damaged."""
    try:
        return read()
    except (*failures(), ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error}).")
        return None
