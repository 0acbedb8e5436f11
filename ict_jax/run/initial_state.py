"""The state that a run begins with: restored, at step 0, or from another run's parameters."""

import dataclasses

import jax
import jax.numpy as jnp

from ict_jax.checkpoints import Loaded, load_ema
from ict_jax.checkpoints.interop.lpips import read_lpips
from ict_jax.checkpoints.store import from_newest
from ict_jax.config.check import differing_function
from ict_jax.config.objective import denoiser_precondition, lpips_files
from ict_jax.config.sampling import is_diffusion
from ict_jax.config.training import Config, build_init_state
from ict_jax.core.errors import require
from ict_jax.run.setup import Progress, Run, describe
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_or_none, require_agreement
from ict_jax.training import parallel
from ict_jax.training.state import Params, TrainState
from ict_jax.training.step import empty_metrics

DIFFUSION = "config.diffusion_from"


def restore_or_init(run: Run) -> Progress:
    """The newest checkpoint of the run that is not damaged, or the state at step 0."""
    init_state = build_init_state(run.config)

    def init() -> Progress:
        return Progress(init_state(), empty_metrics())

    abstract = parallel.abstract_state(init, run.mesh)
    size = sum(a.size for a in jax.tree.leaves(abstract.state.params))
    say(f"{size:,} parameters on {describe(run.mesh)}")

    def restore(step: int) -> Progress:
        progress = Progress(*run.checkpoints.restore(step, abstract.state, abstract.window))
        say(f"resuming from step {step:,}")
        return progress

    restored = from_newest(run.checkpoints, restore)
    if restored is not None:
        return restored
    loaded = load_trained(run, abstract.state)
    progress = parallel.init_on_mesh(init, run.mesh)
    if not loaded:
        return progress
    return Progress(
        parallel.init_on_mesh(begin_from, run.mesh, progress.state, loaded), progress.window
    )


def load_trained(run: Run, state: TrainState) -> dict[str, Params]:
    """What a run that starts has from elsewhere, whole on every device.

    Args:
      run: the one that starts.
      state: abstract.

    Returns:
      By name those of the teachers `denoiser` and `metric` that the state has, and as `start` the
      parameters that the student starts from, unless they are random.

    Raises:
      ArgumentError: as `load_network` and `read_lpips`.
    """
    config, loaded = run.config, {}
    if "denoiser" in state.teachers:
        loaded["denoiser"] = load_network(config.diffusion_from, DIFFUSION, run, state)
        loaded["start"] = loaded["denoiser"]
    if config.init_from is not None:
        loaded["start"] = load_network(config.init_from, "--init_from", run, state)
    if "metric" in state.teachers:
        with all_or_none():
            weights = read_lpips(**lpips_files(config))
        require_agreement({"the weights of LPIPS": str(parallel.fingerprint_of(weights))})
        loaded["metric"] = parallel.put_whole(weights, run.mesh)
    return loaded


def begin_from(state: TrainState, loaded: dict[str, Params]) -> TrainState:
    """The state at step 0 with what `load_trained` found; the averages begin there too."""
    loaded = dict(loaded)
    start = loaded.pop("start", None)
    teachers = dict(state.teachers)
    if start is not None:
        if "target" in teachers:
            teachers["target"] = start
        params = {**state.params, **start}  # with those of the objective itself
        state = dataclasses.replace(state, params=params, ema_params=start)
    return jax.tree.map(jnp.copy, dataclasses.replace(state, teachers={**teachers, **loaded}))


def load_network(path: str | None, what: str, run: Run, state: TrainState) -> Params:
    """The averaged parameters of another run, whole on every device.

    Args:
      path: of its checkpoint.
      what: the name of the path in messages.
      run: the one that starts.
      state: abstract.

    Raises:
      ArgumentError: they are not there, are of another network or of one with other scalings, or
        should be a diffusion model's.
    """
    assert path is not None
    with all_or_none():
        loaded = load_ema(path, sharding=parallel.replicated(run.mesh), what=what)
        found = loaded.config.precondition
        if what == DIFFUSION:
            expected = denoiser_precondition(run.config)
            require(
                is_diffusion(loaded.config) and found.name == expected,
                f"{what}={path} has objective {loaded.config.objective.name!r} and precondition "
                f"{found.name!r}, and a diffusion model with {expected!r} is to be distilled; "
                "train one with configs/edm.py in the form for this.",
            )
        refuse_other_network(path, what, loaded, run.config, state.ema_params)
    say(f"from the averaged parameters of step {loaded.step:,} in {path} ({what})")
    return loaded.params


def refuse_other_network(
    path: str, what: str, loaded: Loaded, config: Config, expected: Params
) -> None:
    """Raises `ArgumentError` unless the parameters are the same function in a run's network.

    Args:
      path: of the checkpoint.
      what: the name of the path in messages.
      loaded: what it holds.
      config: of the run.
      expected: parameters of the run's network, abstract.
    """
    keys = differing_function(loaded.config, config)
    require(
        not keys,
        f"{what}={path} is another network: {', '.join(keys)}; give a model of the same values, or "
        "set these keys of the config to those of the model.",
    )

    def shapes(tree: Params) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(name): leaf.shape for name, leaf in leaves}

    a, b = shapes(loaded.params), shapes(expected)
    different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    require(
        not different,
        f"{what}={path} is another network: {len(different)} parameters differ, first "
        f"{different[:3]}; give a checkpoint of images of the same shape.",
    )
