"""Reading what a run left in its work directory, on a disk or in a bucket."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from etils import epath
from ml_collections import ConfigDict

from ict_jax.checkpoints.directory import DIRECTORY, complete_steps
from ict_jax.config.objective import build_discretization, has_levels
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.schedules import Stage
from ict_jax.evaluation.score_file import HELD_OUT_FILE, as_record
from ict_jax.run.provenance import read_starts
from ict_jax.run.report.events import Curve, read_scalars
from ict_jax.run.report.png import PngImage, read_png
from ict_jax.runtime.storage import io_errors, to_path

KINDS = {"one_step": "one step", "two_step": "two steps", "heun": "Heun's steps"}
"""Kinds of samples, as in file names and in words."""

SHOWN_STEPS = 12  # steps whose sample grids are shown; of more, some equally far apart are
PAPER_SIGMA_RANGE = (0.002, 80.0)  # used if the config gives none
SCORES_NAME = re.compile(r"scores(_.*)?\.json")
GRID_NAME = re.compile(rf"({'|'.join(KINDS)})_(\d+)\.png")

Content = TypeVar("Content")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Everything that a page about a run shows.

    Attributes:
      name: name of the work directory.
      config: resolved config, as stored.
      total_steps: K.
      step: newest step that was saved or logged.
      finished: whether the newest checkpoint, or without any the newest log, is of the last step.
      stages: stages of the curriculum N(k); empty if unknown or if there are no levels.
      sigma_range: smallest and largest noise level.
      scalars: logged curves by tag.
      samples: sample grids by step, ascending, and kind.
      steps_with_samples: number of steps that have grids, shown or not.
      images: grids by name: those of `KINDS` and `real` from scoring, and `data`.
      starts: provenance of each start, oldest first.
      scores: content of the score files by name, `HELD_OUT_FILE` first.
      notes: a sentence for each thing that could not be read.
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
    images: dict[str, PngImage]
    starts: list[dict[str, Any]]
    scores: dict[str, dict[str, Any]]
    notes: list[str]

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of the config, empty if there is none."""
        section = self.config.get(name)
        return section if isinstance(section, dict) else {}

    @property
    def num_scales(self) -> int:
        """N at the newest step; there must be stages."""
        return [n for first, n in self.stages if first < max(self.step, 1)][-1]


def read_run(workdir: str | os.PathLike) -> RunRecord:
    """Read everything that a page about a run shows.

    Anything but the config may be missing; files that cannot be read become notes.

    Raises:
      ArgumentError: there is no run in `workdir`.
    """
    path = to_path(workdir)
    try:
        return _read_run(path)
    except io_errors() as error:
        raise ArgumentError(
            f"--workdir={path} cannot be read ({error}); check its permissions and the disk."
        ) from error


def _read_run(path: epath.Path) -> RunRecord:
    require(path.exists(), f"--workdir={path} does not exist; give the work directory of a run.")
    require(path.is_dir(), f"--workdir={path} is a file; give the work directory of a run.")
    require(
        (path / "config.json").exists(),
        f"--workdir={path} holds no run: there is no config.json in it; give the --workdir of "
        "ict_jax.cli.train.",
    )
    notes: list[str] = []
    config = _read_config(path / "config.json")
    files = {file.name: file for file in path.iterdir()}
    starts = read_starts(path)
    scalars = read_scalars([f for n, f in files.items() if "tfevents" in n], starts, notes)
    saved = max(complete_steps(path / DIRECTORY), default=None)
    logged = max((max(curve) for curve in scalars.values()), default=0)
    stages, sigma_range = _noise_levels(config, notes)
    samples, count = _read_samples(path / "samples", notes)
    images = {name: files.get(f"{name}.png") for name in (*KINDS, "real", "data")}
    names = sorted(filter(SCORES_NAME.fullmatch, files), key=lambda n: (n != HELD_OUT_FILE, n))
    return RunRecord(
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
        images=_read_each({k: file for k, file in images.items() if file}, _read_image, notes),
        starts=starts,
        scores=_read_each({name: files[name] for name in names}, _read_scores, notes),
        notes=notes,
    )


def _read_config(path: epath.Path) -> dict[str, Any]:
    try:
        config = _read_json(path)
        steps = config.get("total_steps")
        if not isinstance(steps, int):
            raise ValueError(f"total_steps is {steps!r}")
    except (*io_errors(), ValueError) as error:
        raise ArgumentError(
            f"{path} is not the config of a run ({error}); start the run again, which writes it "
            "anew, or copy it again."
        ) from error
    return config


def _noise_levels(
    config: dict[str, Any], notes: list[str]
) -> tuple[list[Stage], tuple[float, float]]:
    """Return the stages of N(k), and the smallest and the largest level."""
    try:
        disc = build_discretization(ConfigDict(config))
        counted = has_levels(ConfigDict(config))
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
        notes.append(f"N(k) cannot be computed from config.json ({error}).")
        return [], PAPER_SIGMA_RANGE
    pairs = zip(disc.first_steps.tolist(), disc.num_scales.tolist(), strict=True)
    stages = [Stage(*pair) for pair in pairs] if counted else []
    return stages, (float(disc.sigmas.min()), float(disc.sigmas.max()))


def _read_samples(
    directory: epath.Path, notes: list[str]
) -> tuple[dict[int, dict[str, PngImage]], int]:
    """Read the grids of the steps to show; also return how many steps have grids."""
    files: dict[int, dict[str, epath.Path]] = {}
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if match := GRID_NAME.fullmatch(file.name):
            files.setdefault(int(match[2]), {})[match[1]] = file
    steps = sorted(files)
    if len(steps) > SHOWN_STEPS:  # the first and the last among them
        last = len(steps) - 1
        steps = [steps[round(i * last / (SHOWN_STEPS - 1))] for i in range(SHOWN_STEPS)]
    samples = {step: _read_each(files[step], _read_image, notes) for step in steps}
    return {step: grids for step, grids in samples.items() if grids}, len(files)


def _read_each(
    files: Mapping[str, epath.Path], read: Callable[[epath.Path], Content], notes: list[str]
) -> dict[str, Content]:
    """Read files; one that is damaged gets a note and is left out."""
    contents = {}
    for key, file in files.items():
        try:
            contents[key] = read(file)
        except (*io_errors(), ValueError) as error:
            notes.append(f"{file.name} cannot be read ({error}).")
    return contents


def _read_image(path: epath.Path) -> PngImage:
    return read_png(path.read_bytes())


def _read_scores(path: epath.Path) -> dict[str, Any]:
    return as_record(_read_json(path))


def _read_json(path: epath.Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected an object")
    return value
