"""Comparison of configs, to resume a run or to start it from another run's parameters."""

import dataclasses
import math
from typing import Any

from ict_jax.config.network import build_model
from ict_jax.config.objective import DIFFUSION_FROM, objective_kind
from ict_jax.config.sampling import is_diffusion
from ict_jax.config.sections import Config
from ict_jax.core.errors import require

RESULT_FREE = ("mesh", "pipeline", "logging", "evaluation", "checkpointing", "sampling")
"""Sections that do not change the trained parameters; a resumed run may change them."""

COMPUTE_ONLY = (
    *("data.in_memory", "model.remat", "model.scan_blocks"),
    *("lpips.vgg_weights", "lpips.linear_weights"),  # the state contains the weights
)
"""Other keys that change the parameters by rounding errors at most."""

FUNCTION_FREE = (
    *("dropout", "dropout_max_resolution"),  # of training alone
    "fourier_scale",  # only scales the initial frequencies, which are parameters
    *("dtype", "remat", "scan_blocks"),  # of the computation, to rounding
)
"""Fields of a network that do not change the function of given parameters."""

TRIGFLOW = "trigflow"
"""The precondition whose network is trained for another output than all others."""

ADDED = {
    "discretization.curriculum": "doubling",
    "discretization.noise_law": "lognormal",
    "optimizer.name": "radam",
    "optimizer.warm_up_steps": 0,
    "objective.metric": "pseudo_huber",
    "objective.weight": "inverse_gap",
}
"""Values in effect in the first versions, whose configs lack these keys."""


def differing_keys(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Return the dotted names of the keys whose values differ, with both values.

    Skips sections and keys that a resumed run may change.
    """
    found = []
    for key in sorted(set(old) | set(new)):
        if (not prefix and key in RESULT_FREE) or prefix + key in COMPUTE_ONLY:
            continue
        before = ADDED.get(prefix + key)
        a, b = old.get(key, before), new.get(key, before)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} ({a!r} -> {b!r})")
    return found


def differing_function(theirs: Config, ours: Config) -> list[str]:
    """Return the dotted names of the keys that make the same parameters another function.

    Missing keys of the network have its defaults. A boundary at sigma_min and one at 0 may differ,
    since consistency models start from diffusion models.
    """
    a, b = build_model(theirs), build_model(ours)
    pairs = {f"model.{key}": (_field(a, key), _field(b, key)) for key in _fields(a) & _fields(b)}
    if not (isinstance(a, type(b)) or isinstance(b, type(a))):
        pairs = {"model.name": (theirs.model.name, ours.model.name)}
    found, wanted = theirs.precondition, ours.precondition
    for key in {"sigma_data", "sigma_min"} & set(found) & set(wanted):
        if not math.isclose(found[key], wanted[key], rel_tol=1e-6):
            pairs[f"precondition.{key}"] = (found[key], wanted[key])
    if (found.name == TRIGFLOW) != (wanted.name == TRIGFLOW):
        pairs["precondition.name"] = (found.name, wanted.name)
    return [f"{name} ({x!r} -> {y!r})" for name, (x, y) in sorted(pairs.items()) if x != y]


def check_start(theirs: Config, ours: Config, what: str, path: str) -> None:
    """Raise `ArgumentError` unless a run can start from, or distil, the model at a path.

    Args:
      theirs: resolved config of the model.
      ours: resolved config of the run.
      what: name of the path, which says whether the model is distilled.
      path: path of the model, for messages.
    """
    name, expected = theirs.precondition.name, objective_kind(ours).denoiser
    require(
        what != DIFFUSION_FROM or (is_diffusion(theirs) and name == expected),
        f"{what}={path} has objective {theirs.objective.name!r} and precondition {name!r}, and a "
        f"diffusion model with {expected!r} is to be distilled; train one with configs/edm.py in "
        "the form for this.",
    )
    keys = differing_function(theirs, ours)
    require(
        not keys,
        f"{what}={path} is another network: {', '.join(keys)}; give a model of the same values, or "
        "set these keys of the config to those of the model.",
    )


def _fields(model: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(model)} - {"name", "parent", *FUNCTION_FREE}


def _field(model: Any, name: str) -> Any:
    value = getattr(model, name)
    return tuple(value) if isinstance(value, list) else value  # JSON stores tuples as lists
