"""Initial state of a run: restored, at step 0, or from another run's parameters."""

import dataclasses

import jax
import jax.numpy as jnp

from ict_jax.checkpoints import load_ema
from ict_jax.checkpoints.interop.lpips import read_lpips
from ict_jax.config.compare import check_start
from ict_jax.config.objective import DIFFUSION_FROM, lpips_files, source_checkpoints
from ict_jax.config.training import build_init_state
from ict_jax.core.errors import require
from ict_jax.run.setup import Progress, Run, describe_devices
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none, require_agreement
from ict_jax.training import parallel
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import empty_metrics


def restore_or_init(run: Run) -> Progress:
    """Restore the newest undamaged checkpoint of the run, or initialize the state at step 0."""
    init_state = build_init_state(run.config)

    def init() -> Progress:
        return Progress(init_state(), empty_metrics())

    abstract = parallel.abstract_state(init, run.mesh)
    size = sum(a.size for a in jax.tree.leaves(abstract.state.params))
    say(f"{size:,} parameters on {describe_devices(run.mesh)}")

    def restore(step: int) -> Progress:
        progress = Progress(*run.checkpoints.restore(step, abstract.state, abstract.window))
        say(f"resuming from step {step:,}")
        return progress

    restored = run.checkpoints.read_newest(restore)
    if restored is not None:
        return restored
    loaded = load_trained(run, abstract.state.ema_params)
    progress = parallel.init_on_mesh(init, run.mesh)
    if not loaded:
        return progress
    return Progress(
        parallel.init_on_mesh(begin_from, run.mesh, progress.state, loaded), progress.window
    )


def load_trained(run: Run, network: Params) -> dict[str, Params]:
    """Load the parameters that a new run, with this abstract network, gets from elsewhere.

    Returns:
      The teachers `denoiser` and `metric` where the run has them, and as `start` the student's
      initial parameters unless they are random; all replicated.

    Raises:
      ArgumentError: as `load_network` and `read_lpips`.
    """
    loaded = {}
    for what, path in source_checkpoints(run.config).items():
        loaded["start"] = load_network(path, what, run, network)
        if what == DIFFUSION_FROM:
            loaded["denoiser"] = loaded["start"]
    if (files := lpips_files(run.config)) is not None:
        with all_or_none():
            weights = read_lpips(**files)
        require_agreement({"the weights of LPIPS": str(parallel.fingerprint_of(weights))})
        loaded["metric"] = parallel.replicate(weights, run.mesh)
    return loaded


def begin_from(state: TrainState, loaded: dict[str, Params]) -> TrainState:
    """Insert what `load_trained` returned into the state at step 0, EMA parameters included."""
    loaded = dict(loaded)
    start = loaded.pop("start", None)
    teachers = dict(state.teachers)
    if start is not None:
        if "target" in teachers:
            teachers["target"] = start
        params = {**state.params, **start}  # keeps the objective's own parameters
        state = dataclasses.replace(state, params=params, ema_params=start)
    return jax.tree.map(jnp.copy, dataclasses.replace(state, teachers={**teachers, **loaded}))


def load_network(path: str, what: str, run: Run, expected: Params) -> Params:
    """Load the EMA parameters of another run, replicated; `what` names their path in messages.

    Raises:
      ArgumentError: the checkpoint is missing, or of another network or other scalings, or not the
        diffusion model that it should be.
    """

    def shapes(tree: Params) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(name): leaf.shape for name, leaf in leaves}

    with all_or_none():
        loaded = load_ema(path, sharding=parallel.replicated(run.mesh), what=what)
        check_start(loaded.config, run.config, what, path)
        a, b = shapes(loaded.params), shapes(expected)
        different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
        require(
            not different,
            f"{what}={path} is another network: {len(different)} parameters differ, first "
            f"{different[:3]}; give a checkpoint of images of the same shape.",
        )
    say(f"from the EMA parameters of step {loaded.step:,} in {path} ({what})")
    return loaded.params
