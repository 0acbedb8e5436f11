"""Setup of a run: check everything, build its parts, open its work directory."""

import contextlib
import json
from typing import NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from ict_jax.checkpoints import locate
from ict_jax.checkpoints.directory import DIRECTORY
from ict_jax.checkpoints.interop.lpips import check_lpips_files
from ict_jax.checkpoints.store import Checkpoints
from ict_jax.config.check import check_run
from ict_jax.config.compare import differing_keys
from ict_jax.config.objective import lpips_files, source_checkpoints
from ict_jax.config.sampling import build_draw, diffusion_sigmas, sampler_arguments
from ict_jax.config.sections import Config, build_section
from ict_jax.config.training import build_batches, sizes_of
from ict_jax.core.errors import require
from ict_jax.data import Batches
from ict_jax.evaluation.evaluator import Evaluator, SampleGrids
from ict_jax.evaluation.grids import image_grid, save_png
from ict_jax.evaluation.sampler import Sampler
from ict_jax.run.log import RunLog
from ict_jax.run.provenance import record_start
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import writable_directory, write_atomically
from ict_jax.training.state import TrainState
from ict_jax.training.step import Metrics


class Checked(NamedTuple):
    """Resolved config and the parts of a run that touch no files."""

    config: Config
    batches: Batches
    mesh: Mesh
    evaluator: Evaluator


class Run(NamedTuple):
    """All parts of a run, besides its state."""

    config: Config
    workdir: epath.Path
    batches: Batches
    mesh: Mesh
    checkpoints: Checkpoints
    log: RunLog
    evaluator: Evaluator

    def close(self) -> None:
        """Finish pending writes."""
        self.log.close()
        self.checkpoints.close()


class Progress(NamedTuple):
    """State and the metrics since the last report, both on the devices."""

    state: TrainState
    window: Metrics


def check(config: Config) -> Checked:
    """Check all of a config, without compiling or writing anything, and resolve it.

    Raises:
      ArgumentError: the first mistake found.
    """
    config, mesh, dataset = check_run(config, with_data=True)
    assert dataset is not None
    sampler = Sampler(build_draw(config), mesh, **sampler_arguments(config))
    sigmas = diffusion_sigmas(config)
    grids = build_section(config, "sampling", SampleGrids, sampler, diffusion_sigmas=sigmas)
    evaluator = build_section(config, "evaluation", Evaluator, dataset, grids)
    return Checked(config, build_batches(config, dataset), mesh, evaluator)


def open_run(checked: Checked, workdir: epath.Path) -> Run:
    """Open a locked work directory for a run.

    Raises:
      ArgumentError: the directory is not writable or contains another run, or the weights that a
        new run starts from are missing.
    """
    config, batches, mesh, evaluator = checked
    directory, sizes = workdir / DIRECTORY, sizes_of(config)
    with all_or_none():
        for path in (directory, workdir / "samples"):
            writable_directory(path, "--workdir")
    scored = evaluator.every_steps is not None
    text = json.dumps(config.to_dict(), indent=2)
    with contextlib.ExitStack() as opened:
        checkpoints = build_section(config, "checkpointing", Checkpoints, directory, scored=scored)
        opened.callback(checkpoints.close)
        refuse_changed_config(config, checkpoints)
        with all_or_none():
            if checkpoints.latest_step() is None:
                check_sources(config)
            log = build_section(
                config, "logging", RunLog, workdir, sizes.total_steps, sizes.batch_size
            )
            if is_main():
                write_atomically(workdir / "config.json", f"{text}\n".encode())
                step = checkpoints.latest_step() or 0
                record_start(workdir, step=step, devices=describe_devices(mesh))
                first = batches(0, slice(evaluator.grids.num_images))["image"]
                save_png(workdir / "data.png", image_grid(first))
        opened.pop_all()
    say(f"config, as stored in {workdir / 'config.json'} and in every checkpoint:\n{text}")
    return Run(config, workdir, batches, mesh, checkpoints, log, evaluator)


def check_sources(config: Config) -> None:
    """Raise `ArgumentError` unless the checkpoints and weights that a new run needs exist."""
    for what, path in source_checkpoints(config).items():
        locate(path, what=what)
    if (files := lpips_files(config)) is not None:
        check_lpips_files(**files)


def refuse_changed_config(config: Config, checkpoints: Checkpoints) -> None:
    """Raise `ArgumentError` if the newest readable checkpoint has another config."""
    old = checkpoints.read_newest(checkpoints.config)
    if old is None:
        return
    # As the stored one is read: JSON turns tuples into lists.
    keys = differing_keys(old, json.loads(json.dumps(config.to_dict())))
    require(
        not keys,
        f"--workdir holds a run with another config: {', '.join(keys)}; resume it with its own "
        "config, or give another --workdir.",
    )


def describe_devices(mesh: Mesh) -> str:
    """Describe the devices of a run in words."""
    devices = mesh.devices.ravel()
    text = f"{mesh.size} {jax.default_backend()} device(s)"
    if jax.default_backend() != "cpu":
        text += f" ({devices[0].device_kind})"
    if jax.process_count() > 1:
        text += f" of {jax.process_count()} processes"
    if mesh.shape["fsdp"] > 1:
        text += f", the state sharded over {mesh.shape['fsdp']}"
    return text
