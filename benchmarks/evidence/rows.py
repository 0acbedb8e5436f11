"""The rows of the tables: what is changed in a config, and which mistake is made."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.evidence import mistakes
from configs import cd, ct, digits, ect, edm, scd, sct

STEPS, BATCH_SIZE = 6000, 128
"""The equal budget of a run on digits, half of the quick start's."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      change: changes a config.
      mistake: a context manager within which the run is built.
      begin: makes the config, where it is not the table's.
      teacher: name of the row whose run it distils or starts from.
    """

    change: Callable[[Any], None] = lambda config: None
    mistake: Callable[[], Any] = contextlib.nullcontext
    begin: Callable[[], Any] | None = None
    teacher: str | None = None


def ict() -> Any:
    """iCT on digits at the budget of the tables."""
    return at_budget(digits.get_config())


def at_budget(config: Any) -> Any:
    """A config of digits at the budget of the tables, without what a run says of itself."""
    config.total_steps, config.batch_size = STEPS, BATCH_SIZE
    config.logging.update({"every_steps": 1000, "samples_every_steps": STEPS})
    config.checkpointing.every_steps = 2000
    config.evaluation.at_end = False
    config.mesh.num_devices = 1
    return config


def _levels(config: Any, curriculum: str, s0: int) -> None:
    config.discretization.update({"curriculum": curriculum, "s0": s0})


def _uniform(config: Any) -> None:
    config.discretization.noise_law = "uniform"


def _first_changes(config: Any) -> None:
    """Section 3.1: weighting, noise embedding and dropout."""
    config.objective.weight = "inverse_gap"
    config.model.update({"fourier_scale": 0.02, "dropout": 0.2})


def _ict(config: Any, **objective: Any) -> None:
    """iCT's objective with CT's levels."""
    config.objective = digits.get_config().objective
    config.objective.update(objective)
    _first_changes(config)


def _set(**values: Any) -> Callable[[Any], None]:
    """Sets values by dotted names, with __ for the dot."""

    def change(config: Any) -> None:
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in values.items()})

    return change


def _together(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        for each in changes:
            each(config)

    return change


C = 0.00054 * 8  # sqrt(d) of 8x8 digits
PATH = {
    "CT, squared l2": Row(),
    "+ weighting, embedding, dropout": Row(_first_changes),
    "- teacher EMA": Row(lambda config: _ict(config, metric="squared_l2")),
    "+ Pseudo-Huber": Row(lambda config: _ict(config)),
    "+ Pseudo-Huber, c / 10": Row(lambda config: _ict(config, huber_c=C / 10)),
    "+ Pseudo-Huber, 10 c": Row(lambda config: _ict(config, huber_c=10 * C)),
    "+ doubling curriculum": Row(_together(_ict, lambda c: _levels(c, "doubling", 10))),
    "   constant instead": Row(_together(_ict, lambda c: _levels(c, "constant", 10))),
    "   linear instead": Row(_together(_ict, lambda c: _levels(c, "linear", 10))),
    "   sqrt from s0 = 10 instead": Row(_together(_ict, lambda c: _levels(c, "sqrt", 10))),
}
"""From CT to iCT, change by change; lognormal noise, the last one, is iCT itself."""

WITHOUT = {
    "iCT": Row(),
    "without the weighting": Row(_set(objective__weight="unit")),
    "with a teacher EMA of 0.99": Row(_set(objective__target_decay=0.99)),
    "with squared l2": Row(_set(objective__metric="squared_l2")),
    "with CT's sqrt curriculum": Row(lambda config: _levels(config, "sqrt", 2)),
    "with uniform levels": Row(_uniform),
    "without dropout": Row(_set(model__dropout=0.0)),
    "with Fourier scale 16": Row(_set(model__fourier_scale=16.0)),
}
"""iCT with one of its changes taken back."""

MISTAKES = {
    "Pseudo-Huber of each pixel": Row(mistake=mistakes.huber_of_each_pixel),
    "c = 0.00054, without sqrt(d)": Row(_set(objective__huber_c=0.00054)),
    "c = 0.00054 d": Row(_set(objective__huber_c=0.00054 * 64)),
    "P_mean = +1.1": Row(_set(discretization__p_mean=1.1)),
    "dropout masks not shared": Row(mistake=mistakes.masks_not_shared),
    "teacher without dropout": Row(mistake=mistakes.teacher_without_dropout),
    "Fourier scale 0.002": Row(_set(model__fourier_scale=0.002)),
    "c_noise times 1000": Row(mistake=mistakes.noise_times_1000),
    "no c_in": Row(mistake=mistakes.no_c_in),
    "no c_in, raw sigma as c_noise": Row(mistake=mistakes.raw_sigma),
    "boundary scalings without sigma_min": Row(mistake=mistakes.no_boundary),
    "grid off by one": Row(mistake=mistakes.grid_off_by_one),
    "student below, teacher above": Row(mistake=mistakes.levels_swapped),
    "s1 cut to 10": Row(_set(discretization__s1=10)),
    "learning rate x 4": Row(_set(optimizer__learning_rate=4e-3)),
    "batch of 32 at as many steps": Row(_set(batch_size=32)),
}
"""What others got wrong, each on the same run; some are among `WITHOUT` already."""


def _of(module: Any, form: str = "digits") -> Callable[[], Any]:
    return lambda: at_budget(module.get_config(form))


EDM, TRIGFLOW = "EDM (Heun)", "EDM with TrigFlow's scalings (Heun)"
OBJECTIVES = {
    EDM: Row(begin=_of(edm)),
    TRIGFLOW: Row(begin=_of(edm, "trigflow_digits")),
    "CT, squared l2": Row(begin=_of(ct)),
    "CD, squared l2": Row(begin=_of(cd), teacher=EDM),
    "ECT": Row(begin=_of(ect), teacher=EDM),
    "ECT from random weights": Row(begin=_of(ect)),
    "sCT": Row(begin=_of(sct), teacher=TRIGFLOW),
    "sCT from random weights": Row(begin=_of(sct)),
    "sCD": Row(begin=_of(scd), teacher=TRIGFLOW),
    "iCT": Row(),
}
"""Each objective at as many steps; those with a teacher had its steps too."""

LEVELS = {
    f"N = {n + 1}": Row(
        _set(discretization__curriculum="constant", discretization__s0=n, discretization__s1=n)
    )
    for n in (5, 10, 20, 40, 80, 160)
}
"""iCT with as many levels from the first step to the last."""

TABLES = {
    "objectives": (ict, OBJECTIVES),
    "levels": (ict, LEVELS),
    "path": (_of(ct), PATH),
    "without": (ict, WITHOUT),
    "mistakes": (ict, MISTAKES),
}
"""What each table begins with, and its rows."""
