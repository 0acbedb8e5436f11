"""From the config sections `discretization` and `objective` to what a run minimises."""

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
    """Stands for LPIPS until its parameters are there, and cannot be called."""
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

LPIPS_FILES = ("vgg_weights", "linear_weights")
"""Keys of `config.lpips` that name files; the others are the network's."""


class Kind(NamedTuple):
    """How an objective is built.

    Attributes:
      make: the objective, from what it is given and its config section.
      precondition: the one that it trains.
      given: names of what `make` is given: `disc`, `sigma_data`.
      others: further preconditions that it trains.
      denoiser: the precondition of the diffusion model that it distils, if it does.
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
    """Noise levels and their law over the whole run."""
    tables = {"curriculum": CURRICULA, "noise_law": NOISE_LAWS}
    section = resolve_names("discretization", config.discretization, tables)
    return splat("discretization", section, make_discretization, config.total_steps)


def finest_grid(config: Config) -> list[float]:
    """The ascending noise levels of the last stage of the training, 1281 in iCT."""
    tables = build_discretization(config)
    return tables.sigmas[-1, : tables.num_scales[-1]].tolist()


def has_levels(config: Config) -> bool:
    """Whether the objective trains at N(k) levels, rather than at all between two."""
    return "disc" in select_by_name("objective", config.objective, OBJECTIVES)[0].given


def build_objective(config: Config, metric: Metric | None = None) -> Objective:
    """What a run minimises, per `config.objective`.

    Args:
      config: with the sections `discretization`, `objective` and `precondition`.
      metric: replaces the one that the config names.

    Raises:
      ArgumentError: an unknown name or key.
    """
    kind, options = select_by_name("objective", config.objective, OBJECTIVES)
    given = {}
    if "disc" in kind.given:
        given["disc"] = build_discretization(config)
    if "sigma_data" in kind.given:
        stated = config.precondition.sigma_data
        given["sigma_data"] = 0.5 if stated is None else stated  # the data say it later
    section = resolve_names("objective", options, {"metric": METRICS, "weight": WEIGHTS})
    if metric is not None:
        section["metric"] = metric
    return splat("objective", section, functools.partial(kind.make, **given))


def check_precondition(config: Config) -> None:
    """Raises `ArgumentError` unless the objective can train what the network is wrapped into."""
    kind, _ = select_by_name("objective", config.objective, OBJECTIVES)
    require(
        config.precondition.name in (kind.precondition, *kind.others),
        f"config.objective.name={config.objective.name!r} trains with config.precondition.name="
        f"{kind.precondition!r}, not {config.precondition.name!r}; use a config that has both.",
    )


def denoiser_precondition(config: Config) -> str | None:
    """Of the diffusion model that the objective distils; None if it distils none."""
    return select_by_name("objective", config.objective, OBJECTIVES)[0].denoiser


def metric_network(config: Config) -> LPIPS | None:
    """The network that compares images, if the objective's metric is one.

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


def lpips_files(config: Config) -> dict[str, str | None]:
    """The paths of the weights of LPIPS, by the names that `interop.lpips.read_lpips` takes."""
    return {name: config.lpips.get(name) for name in LPIPS_FILES}


def teacher_names(objective: Objective) -> list[str]:
    """Those of the network's kind that the state holds for an objective."""
    names = {"target": objective.target_decay is not None, "denoiser": objective.has_denoiser}
    return [name for name, held in names.items() if held]
