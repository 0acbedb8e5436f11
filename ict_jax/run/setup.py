"""The start of a run: check everything, build its parts, restore or initialise its state."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from ict_jax.checkpoints import locate
from ict_jax.checkpoints.directory import DIRECTORY
from ict_jax.checkpoints.interop.lpips import check_lpips_files
from ict_jax.checkpoints.store import Checkpoints, from_newest
from ict_jax.config.check import check_batch, check_classes, check_config, differing_keys, resolve
from ict_jax.config.objective import lpips_files, metric_network
from ict_jax.config.sampling import build_draw, sampler_arguments, sampling_arguments
from ict_jax.config.training import Config, build_batches, build_dataset, build_objective, splat
from ict_jax.core.errors import require
from ict_jax.data import Batches, Dataset, places
from ict_jax.evaluation.evaluator import Evaluator, SampleGrids
from ict_jax.evaluation.grids import image_grid, save_png
from ict_jax.evaluation.sampler import Sampler
from ict_jax.run.log import RunLog
from ict_jax.run.provenance import record_start
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none, is_main
from ict_jax.runtime.storage import writable_directory, write_at_once
from ict_jax.training import parallel
from ict_jax.training.state import TrainState
from ict_jax.training.step import Metrics


class Checked(NamedTuple):
    """A resolved config and the parts of a run that touch no files."""

    config: Config
    batches: Batches
    mesh: Mesh
    evaluator: Evaluator


class Run(NamedTuple):
    """What a run is made of, besides its state."""

    config: Config
    workdir: epath.Path
    batches: Batches
    mesh: Mesh
    checkpoints: Checkpoints
    log: RunLog
    evaluator: Evaluator

    def close(self) -> None:
        """Finishes what is being written."""
        self.log.close()
        self.checkpoints.close()


class Progress(NamedTuple):
    """State and the metrics since the last report, both on the devices."""

    state: TrainState
    window: Metrics


def check(config: Config) -> Checked:
    """Checks all of a config, without compiling or writing anything, and resolves it.

    Raises:
      ArgumentError: the first mistake found.
    """
    config, mesh, dataset = check_parts(config)
    assert dataset is not None
    sampler = Sampler(build_draw(config), mesh, **sampler_arguments(config))
    grids = splat("sampling", sampling_arguments(config), SampleGrids, sampler)
    evaluator = splat("evaluation", config.evaluation, Evaluator, dataset, grids)
    return Checked(config, build_batches(config, dataset), mesh, evaluator)


def check_parts(
    config: Config, *, with_data: bool = True, devices: Sequence[Any] | None = None
) -> tuple[Config, Mesh, Dataset | None]:
    """Checks a config and resolves it.

    Args:
      config: as made by a file in `configs/`; the user's own, whose place of data is remembered.
      with_data: whether to load the data; without it the config must state what comes from it.
      devices: of the mesh; default: all of the job.

    Raises:
      ArgumentError: the first mistake found.
    """
    check_config(config)
    mesh = splat("mesh", config.mesh, parallel.make_mesh, devices)
    check_batch(config, mesh)
    dataset = build_dataset(config) if with_data else None
    if dataset is not None:
        places.remember(config.data.get("data_dir"))
        check_classes(config, dataset)
    return resolve(config, dataset), mesh, dataset


def open_run(checked: Checked, workdir: epath.Path) -> Run:
    """Opens a locked work directory for a run.

    Raises:
      ArgumentError: something in it cannot be written to, or it holds another run.
    """
    config, batches, mesh, evaluator = checked
    with all_or_none():
        for part in (workdir / DIRECTORY, workdir / "samples"):
            writable_directory(part, "--workdir")
    options = {**config.checkpointing, "scored": evaluator.every_steps is not None}
    text = json.dumps(config.to_dict(), indent=2)
    with contextlib.ExitStack() as opened:
        checkpoints = splat("checkpointing", options, Checkpoints, workdir / DIRECTORY)
        opened.callback(checkpoints.close)
        refuse_changed_config(config, checkpoints)
        with all_or_none():
            if checkpoints.latest_step() is None:
                check_sources(config)
            log = splat(
                "logging", config.logging, RunLog, workdir, config.total_steps, config.batch_size
            )
            if is_main():
                write_at_once(workdir / "config.json", f"{text}\n".encode())
                step = checkpoints.latest_step() or 0
                record_start(workdir, step=step, devices=describe(mesh))
                first = batches(0, slice(evaluator.grids.num_images))["image"]
                save_png(workdir / "data.png", image_grid(first))
        opened.pop_all()
    say(f"config, as stored in {workdir / 'config.json'} and in every checkpoint:\n{text}")
    return Run(config, workdir, batches, mesh, checkpoints, log, evaluator)


def check_sources(config: Config) -> None:
    """Raises `ArgumentError` unless the checkpoints and weights that a new run needs are there."""
    if config.init_from is not None:
        locate(config.init_from, what="--init_from")
    path = config.get("diffusion_from")
    has_denoiser = build_objective(config).has_denoiser
    require(
        has_denoiser or path is None,
        f"config.diffusion_from={path} is what distillation distils, and config.objective.name="
        f"{config.objective.name!r} distils nothing; to start from its weights give --init_from.",
    )
    if has_denoiser:
        require(
            path is not None,
            f"config.objective.name={config.objective.name!r} distils a diffusion model, and none "
            "is given; give --config.diffusion_from=RUN, trained with objective.name='edm' or "
            "imported.",
        )
        assert path is not None
        locate(path, what="config.diffusion_from")
    if metric_network(config) is not None:
        check_lpips_files(**lpips_files(config))


def refuse_changed_config(config: Config, checkpoints: Checkpoints) -> None:
    """Raises `ArgumentError` if the newest readable checkpoint was made with another config."""
    old = from_newest(checkpoints, checkpoints.config)
    if old is None:
        return
    # Through JSON, as the stored one went: tuples become lists.
    new = json.loads(json.dumps(config.to_dict()))
    keys = differing_keys(old, new)
    require(
        not keys,
        f"--workdir holds a run with another config: {', '.join(keys)}; resume it with its own "
        "config, or give another --workdir.",
    )


def describe(mesh: Mesh) -> str:
    """The devices of a run, in words."""
    devices = mesh.devices.ravel()
    text = f"{mesh.size} {jax.default_backend()} device(s)"
    if jax.default_backend() != "cpu":
        text += f" ({devices[0].device_kind})"
    if jax.process_count() > 1:
        text += f" of {jax.process_count()} processes"
    if mesh.shape["fsdp"] > 1:
        text += f", the state cut over {mesh.shape['fsdp']}"
    return text
