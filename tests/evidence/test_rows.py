"""Every row of the evidence trains what its name says."""

import jax
import pytest

from benchmarks.evidence.rows import STEPS, TABLES
from benchmarks.evidence.run import identity
from ict_jax import build, checks
from ict_jax.data import load_data

ROWS = [(table, name) for table, (_, rows) in TABLES.items() for name in rows]


def config_of(table, name):
    begin, rows = TABLES[table]
    config = (rows[name].begin or begin)()
    rows[name].change(config)
    return config


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_is_a_config_that_trains(table, name):
    config = config_of(table, name)
    assert config.total_steps == STEPS
    with TABLES[table][1][name].mistake():
        checks.resolve(config, load_data("digits"))
        checks.check_config(config)


def test_rows_of_a_table_differ():
    for table, (_, rows) in TABLES.items():
        marks = [identity(row, config_of(table, name)) for name, row in rows.items()]
        if table == "objectives":  # some differ in what they start from
            continue
        assert len(set(marks)) == len(marks), table


def test_teachers_are_rows_before():
    for _, rows in TABLES.values():
        names = list(rows)
        for name, row in rows.items():
            assert row.teacher is None or names.index(row.teacher) < names.index(name)


def test_the_last_stage_of_ect_is_reached():
    config = config_of("objectives", "ECT")
    objective = build.build_objective(config)
    draws = objective.draw(jax.random.key(0), (64, 2), STEPS - 1)
    assert (draws.sigma_lo[draws.sigma_hi > 5] / draws.sigma_hi[draws.sigma_hi > 5]).min() > 0.99
