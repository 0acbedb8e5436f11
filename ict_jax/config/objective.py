"""The discretization and the objective of a config, and the models that it starts from."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from ict_jax.config.sections import Config, resolve_names, select_by_name, splat
from ict_jax.core import objectives, schedules
from ict_jax.core.discretization import Discretization, make_discretization
from ict_jax.core.errors import ArgumentError, require
from ict_jax.core.losses import (
    inverse_gap,
    mean_absolute_distance,
    mean_squared_distance,
    unit_weight,
)
from ict_jax.core.objectives import Objective
from ict_jax.core.typing import Data, Metric, PerExample
from ict_jax.models import LPIPS


def lpips_without_parameters(prediction: Data, target: Data, /) -> PerExample:
    """Stand in for LPIPS until its parameters are loaded; never called."""
    raise AssertionError("LPIPS was called without its parameters")


CURRICULA = {
    "doubling": schedules.doubling_curriculum,
    "sqrt": schedules.sqrt_curriculum,
    "linear": schedules.linear_curriculum,
    "constant": schedules.constant_curriculum,
}
NOISE_LAWS = {"lognormal": None, "uniform": schedules.uniform_law}
METRICS = {
    "pseudo_huber": None,
    "squared_l2": mean_squared_distance,
    "l1": mean_absolute_distance,
    "lpips": lpips_without_parameters,
}
WEIGHTS = {"inverse_gap": inverse_gap, "unit": unit_weight}

DIFFUSION_FROM = "config.diffusion_from"
"""Name of the checkpoint that a run distils, in messages."""

LPIPS_FILES = ("vgg_weights", "linear_weights")
"""Keys of `config.lpips` that name files; the others are fields of the network."""


class Kind(NamedTuple):
    """Recipe of an objective.

    Attributes:
      make: makes the objective from `given` and its config section.
      precondition: the precondition that it trains.
      given: arguments of `make` from other sections: `disc`, `sigma_data`.
      others: further preconditions that it trains.
      denoiser: precondition of the diffusion model that it distils, if it does.
    """

    make: Callable[..., Objective]
    precondition: str
    given: tuple[str, ...]
    others: tuple[str, ...] = ()
    denoiser: str | None = None


OBJECTIVES = {
    "ict": Kind(objectives.ict_objective, "boundary", ("disc",)),
    "ct": Kind(objectives.ct_objective, "boundary", ("disc",)),
    "cd": Kind(objectives.cd_objective, "boundary", ("disc",), denoiser="edm"),
    "edm": Kind(objectives.edm_objective, "edm", ("sigma_data",), others=("trigflow",)),
    "ect": Kind(objectives.ect_objective, "zero_boundary", ()),
    "sct": Kind(objectives.sct_objective, "trigflow", ("sigma_data",)),
    "scd": Kind(objectives.scd_objective, "trigflow", ("sigma_data",), denoiser="trigflow"),
}


def build_discretization(config: Config) -> Discretization:
    """Build the noise levels and their distribution over the whole run."""
    tables = {"curriculum": CURRICULA, "noise_law": NOISE_LAWS}
    section = resolve_names("discretization", config.discretization, tables)
    return splat("discretization", section, make_discretization, config.total_steps)


def finest_grid(config: Config) -> list[float]:
    """Return the ascending noise levels of the last training stage, 1281 in iCT."""
    tables = build_discretization(config)
    return tables.sigmas[-1, : tables.num_scales[-1]].tolist()


def objective_kind(config: Config) -> Kind:
    """Return the recipe of the objective."""
    return select_by_name("objective", config.objective, OBJECTIVES)[0]


def has_levels(config: Config) -> bool:
    """Return whether the objective trains at N(k) discrete noise levels."""
    return "disc" in objective_kind(config).given


def build_objective(config: Config, metric: Metric | None = None) -> Objective:
    """Build the objective of `config.objective`; `metric` replaces the one that it names.

    Raises:
      ArgumentError: an unknown name or key.
    """
    kind, options = select_by_name("objective", config.objective, OBJECTIVES)
    given = {}
    if "disc" in kind.given:
        given["disc"] = build_discretization(config)
    if "sigma_data" in kind.given:
        stated = config.precondition.sigma_data
        given["sigma_data"] = 0.5 if stated is None else stated  # measured on the data later
    section = resolve_names("objective", options, {"metric": METRICS, "weight": WEIGHTS})
    if metric is not None:
        section["metric"] = metric
    return splat("objective", section, functools.partial(kind.make, **given))


def check_objective(config: Config) -> None:
    """Raise `ArgumentError` unless the objective can train the network and its precondition."""
    kind, name = objective_kind(config), config.objective.name
    require(
        config.precondition.name in (kind.precondition, *kind.others),
        f"config.objective.name={name!r} trains with config.precondition.name="
        f"{kind.precondition!r}, not {config.precondition.name!r}; use a config that has both.",
    )
    require(
        not (build_objective(config).of_network and config.model.get("dtype") == "bfloat16"),
        f"config.objective.name={name!r} takes the network's derivative along the noise level, "
        "which is not supported in bfloat16; use config.model.dtype='float32'.",
    )


def metric_network(config: Config) -> LPIPS | None:
    """Build the network of the objective's metric, None for a metric without one.

    Raises:
      ArgumentError: the section `lpips` is missing, or has an unknown key or value.
    """
    asked, section = config.objective.get("metric") == "lpips", config.get("lpips")
    require(
        asked == (section is not None),
        "config.objective.metric='lpips' and the section config.lpips go together; use the form "
        "lpips of configs/ct.py or configs/cd.py, and leave the section out of other configs.",
    )
    if section is None:
        return None
    options = {k: v for k, v in section.items() if k not in LPIPS_FILES}
    try:
        return splat("lpips", options, LPIPS)
    except ValueError as error:
        raise ArgumentError(f"config.lpips: {error}") from error


def lpips_files(config: Config) -> dict[str, str | None] | None:
    """Return the files of LPIPS as arguments of `read_lpips`, None for another metric."""
    if metric_network(config) is None:
        return None
    return {key: config.lpips.get(key) for key in LPIPS_FILES}


def source_checkpoints(config: Config) -> dict[str, str]:
    """Return the checkpoints that a new run starts from, by name, the initial parameters' last.

    Raises:
      ArgumentError: a diffusion model is missing, or given to an objective that distils none.
    """
    name, path = config.objective.name, config.get("diffusion_from")
    distils = objective_kind(config).denoiser is not None
    require(
        distils or path is None,
        f"{DIFFUSION_FROM}={path} is what distillation distils, and config.objective.name="
        f"{name!r} distils nothing; to start from its weights give --init_from.",
    )
    require(
        not distils or path is not None,
        f"config.objective.name={name!r} distils a diffusion model, and none is given; give "
        f"--{DIFFUSION_FROM}=RUN, trained with objective.name='edm' or imported.",
    )
    sources = {DIFFUSION_FROM: path, "--init_from": config.init_from}
    return {what: path for what, path in sources.items() if path is not None}
