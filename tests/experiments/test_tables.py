"""The tables that the documentation shows."""

import numpy as np
import pytest
from scipy import stats

from experiments.evidence import tables


def made(one, two, error=0.5):
    return {
        "one_step": {"w2": one},
        "two_step": {"w2": two},
        "error": dict.fromkeys(tables.SHOWN, error),
    }


def test_a_table_has_its_rows_in_order_with_intervals_over_the_seeds():
    results = {
        "floor": {"w2": 0.1, "error": {"guess": dict.fromkeys(tables.SHOWN, 0.75)}},
        "N = 11, seed 0": made(1.0, 0.5),
        "N = 6, seed 0": made(2.0, 1.0, 0.25),
        "N = 6, seed 1": made(3.0, 1.0, 0.75),
        "N = 6, seed 2": {"diverged": "loss is nan"},
    }
    scores, distances = tables.markdown("mixture_levels", results).split("\n\n")
    head, _, first, second = scores.splitlines()
    assert "floor 0.100" in head
    low, high = stats.t.interval(0.95, 1, loc=2.5, scale=stats.sem([2.0, 3.0]))
    assert f"| N = 6 | 3, 1 diverged | 2.500 +- {(high - low) / 2:.3f} | 1.000 +- 0.000 |" in first
    assert "| N = 11 | 1 | 1.000 | 0.500 |" in second
    _, _, reference, first, second = distances.splitlines()
    assert reference.startswith("| guess |") and reference.count("0.750") == len(tables.SHOWN)
    assert first.startswith("| N = 6 |") and second.startswith("| N = 11 |")
    assert first.count("0.500") == len(tables.SHOWN)


def test_where_the_truth_is_not_known_there_is_no_column_of_it():
    ict = {"one_step": {"fd": 2.0}, "two_step": {"fd": 1.5}}
    lines = tables.markdown(
        "fashion_mnist", {"floor": {"fd": 0.1, "error": {}}, "iCT, seed 0": ict}
    ).splitlines()
    assert lines[0] == "| floor 0.100 | seeds | one step | two steps |"
    assert lines[1:] == ["|---|---|---|---|", "| iCT | 1 | 2.000 | 1.500 |"]


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 4.0]])
def test_an_interval_holds_the_mean(values):
    assert tables.interval(values).startswith(f"{np.mean(values):.3f}")


def test_the_document_shows_the_results():
    text = tables.DOCUMENT.read_text()
    assert tables.fill_in(text) == text
    shown = {name for name in tables.TABLES if f"<!-- {name} -->" in text}
    assert shown >= {name for name in tables.TABLES if tables.read(tables.RESULTS, name)}
    assert (
        tables.fill_in("<!-- levels -->\nold\n<!-- end -->") != "<!-- levels -->\nold\n<!-- end -->"
    )


def test_committed_results_are_of_rows_that_are_defined():
    for name, table in tables.TABLES.items():
        for key in tables.read(tables.RESULTS, name):
            assert key == "floor" or key.rpartition(", seed ")[0] in table.rows, (name, key)
