"""Every row of the evidence trains what its name says."""

import jax
import pytest

from experiments.evidence.rows import TABLES
from experiments.evidence.run import identity
from ict_jax.config.check import check_config, resolve
from ict_jax.config.training import build_dataset, build_objective

ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_is_a_config_that_trains(table, name):
    place, _, rows = TABLES[table]
    config = TABLES[table].config(name, 0)
    with rows[name].mistake(), place.data():
        if config.data.name == "fashion_mnist":  # where it is depends on the machine
            config.update({"image_shape": (32, 32, 1), "precondition": {"sigma_data": 0.5}})
        else:
            resolve(config, build_dataset(config))
        check_config(config)


def test_rows_of_a_table_differ():
    for name, table in TABLES.items():
        marks = [identity(name, key, 0) for key in table.rows]
        assert len(set(marks)) == len(marks), name


def test_runs_of_a_table_have_one_budget():
    for name, table in TABLES.items():
        configs = [(key, table.config(key, 0)) for key in table.rows if "batch of" not in key]
        assert len({(config.total_steps, config.batch_size) for _, config in configs}) == 1, name


def test_teachers_are_rows_before():
    for table in TABLES.values():
        names = list(table.rows)
        for name, row in table.rows.items():
            assert row.teacher is None or names.index(row.teacher) < names.index(name)


def test_the_last_stage_of_ect_is_reached():
    config = TABLES["objectives"].config("ECT", 0)
    objective = build_objective(config)
    draws = objective.draw(jax.random.key(0), (64, 2), config.total_steps - 1)
    assert (draws.sigma_lo[draws.sigma_hi > 5] / draws.sigma_hi[draws.sigma_hi > 5]).min() > 0.99
