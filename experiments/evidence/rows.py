"""The rows of the tables: changes to a config, and mistakes."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from configs import cd, ct, digits, ect, edm, fashion_mnist, scd, sct
from experiments.evidence import mistakes
from experiments.evidence.places import DIGITS, FASHION_MNIST, MIXTURE, UNET, Place


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      change: function that changes a config.
      mistake: context manager within which the run is built.
      begin: function from a form to a config, instead of the table's.
      teacher: name of the row whose run it distils or starts from.
    """

    change: Callable[[Any], None] = lambda config: None
    mistake: Callable[[], Any] = contextlib.nullcontext
    begin: Callable[[str], Any] | None = None
    teacher: str | None = None


class Table(NamedTuple):
    """A table: the place of its runs, the config that they start with, and its rows."""

    place: Place
    begin: Callable[[str], Any]
    rows: dict[str, Row]

    def config(self, name: str, seed: int) -> Any:
        """Return the config of a row, without the run that it starts from."""
        row = self.rows[name]
        config = (row.begin or self.begin)(self.place.form)
        self.place.put(config)
        row.change(config)
        config.seed = seed
        return config


def ict(form: str) -> Any:
    """Return iCT's config in a form of the other objectives' configs."""
    if form == "fashion_mnist":
        return fashion_mnist.get_config("hour")
    return digits.get_config()


def _levels(config: Any, curriculum: str, s0: int) -> None:
    config.discretization.update({"curriculum": curriculum, "s0": s0})


def _uniform(config: Any) -> None:
    config.discretization.noise_law = "uniform"


def _first_changes(config: Any) -> None:
    """Set the weighting, noise embedding and dropout of iCT, Section 3.1."""
    config.objective.weight = "inverse_gap"
    config.model.update({"fourier_scale": 0.02, "dropout": 0.2})


def _ict(config: Any, **objective: Any) -> None:
    """Set iCT's objective with CT's levels."""
    config.objective = digits.get_config().objective
    config.objective.update(objective)
    _first_changes(config)


def _without_teacher(config: Any) -> None:
    """Set CT without the teacher EMA: iCT's objective with squared l2 and unit weight."""
    config.objective = digits.get_config().objective
    config.objective.update({"metric": "squared_l2", "weight": "unit"})
    config.model.fourier_scale = 0.02


def _set(**values: Any) -> Callable[[Any], None]:
    """Set values by dotted names, with __ for the dot."""

    def change(config: Any) -> None:
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in values.items()})

    return change


def _apply_all(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
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
    "+ doubling curriculum": Row(_apply_all(_ict, lambda c: _levels(c, "doubling", 10))),
    "   constant instead": Row(_apply_all(_ict, lambda c: _levels(c, "constant", 10))),
    "   linear instead": Row(_apply_all(_ict, lambda c: _levels(c, "linear", 10))),
    "   sqrt from s0 = 10 instead": Row(_apply_all(_ict, lambda c: _levels(c, "sqrt", 10))),
}
"""Path from CT to iCT, change by change; the last one, lognormal noise, gives iCT itself."""

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
"""iCT with one of its changes undone."""

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
    "curriculum of a run twice as long": Row(mistake=mistakes.curriculum_of_twice_the_run),
    "sampled from the raw weights": Row(_set(training__ema_decay=0.0)),
    "samples not clipped before noise is added": Row(mistake=mistakes.not_clipped),
    "CT with the sum of squares, not the mean": Row(
        begin=ct.get_config, mistake=mistakes.summed_squares
    ),
}
"""Mistakes of others, and last one of our own in CT; some are in `WITHOUT` already."""


def _trigflow(form: str) -> Any:
    return edm.get_config(f"trigflow_{form}")


EDM, TRIGFLOW = "EDM (Heun)", "EDM with TrigFlow's scalings (Heun)"
OBJECTIVES = {
    EDM: Row(begin=edm.get_config),
    TRIGFLOW: Row(begin=_trigflow),
    "CT, squared l2": Row(begin=ct.get_config),
    "CT with Fourier scale 0.02": Row(_set(model__fourier_scale=0.02), begin=ct.get_config),
    "CT with Fourier scale 0.02, without teacher EMA": Row(_without_teacher, begin=ct.get_config),
    "CD, squared l2": Row(begin=cd.get_config, teacher=EDM),
    "ECT": Row(begin=ect.get_config, teacher=EDM),
    "ECT from random weights": Row(begin=ect.get_config),
    "sCT": Row(begin=sct.get_config, teacher=TRIGFLOW),
    "sCT from random weights": Row(begin=sct.get_config),
    "sCD": Row(begin=scd.get_config, teacher=TRIGFLOW),
    "sCT without the learned weight": Row(
        begin=sct.get_config, teacher=TRIGFLOW, mistake=mistakes.constant_weight
    ),
    "sCD without the learned weight": Row(
        begin=scd.get_config, teacher=TRIGFLOW, mistake=mistakes.constant_weight
    ),
    "iCT": Row(),
}
"""Each objective at the same number of steps; those with a teacher also used its steps."""


def _without_dropout(row: Row) -> Row:
    return row._replace(change=_apply_all(row.change, _set(model__dropout=0.0)))


LEVELS = {
    f"N = {n + 1}": Row(
        _set(discretization__curriculum="constant", discretization__s0=n, discretization__s1=n)
    )
    for n in (5, 10, 20, 40, 80, 160)
}
"""iCT with a constant number of levels."""

U_NET = {
    "iCT": Row(),
    "Fourier scale 0.002": Row(_set(model__fourier_scale=0.002)),
    "Fourier scale 16": Row(_set(model__fourier_scale=16.0)),
    "positional": Row(_set(model__embedding="positional")),
    "positional, c_noise times 1000": Row(
        _set(model__embedding="positional"), mistake=mistakes.noise_times_1000
    ),
    "without dropout": Row(_set(model__dropout=0.0)),
    "dropout masks not shared": Row(mistake=mistakes.masks_not_shared),
    "teacher without dropout": Row(mistake=mistakes.teacher_without_dropout),
    "without FIR": Row(_set(model__resample_kernel=(1, 1), model__residual_input=False)),
}
"""Noise embedding, dropout and resampling, which matter in a U-Net."""


FASHION = {
    "CT, squared l2": _without_dropout(Row()),
    "   the sum of squares instead of the mean": _without_dropout(
        Row(mistake=mistakes.summed_squares)
    ),
    **{name: _without_dropout(PATH[name]) for name in ("+ Pseudo-Huber", "+ doubling curriculum")},
    "iCT": Row(begin=ict),
    "   Pseudo-Huber of each pixel instead": Row(begin=ict, mistake=mistakes.huber_of_each_pixel),
}
"""The ends of the path and its most informative steps."""

TABLES = {
    "objectives": Table(
        DIGITS, ict, {name: _without_dropout(row) for name, row in OBJECTIVES.items()}
    ),
    "levels": Table(DIGITS, ict, LEVELS),
    "path": Table(DIGITS, ct.get_config, PATH),
    "without": Table(DIGITS, ict, WITHOUT),
    "mistakes": Table(DIGITS, ict, MISTAKES),
    "unet": Table(UNET, ict, U_NET),
    "mixture_objectives": Table(MIXTURE, ict, OBJECTIVES),
    "mixture_levels": Table(MIXTURE, ict, LEVELS),
    "mixture_without": Table(
        MIXTURE, ict, {name: row for name, row in WITHOUT.items() if name != "without dropout"}
    ),
    "fashion_mnist": Table(FASHION_MNIST, ct.get_config, FASHION),
}
"""All tables, by the names of their results."""
