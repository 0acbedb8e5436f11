"""Ternary search, and schedules by it."""

import pytest

import ict_jax
from ict_jax.core.schedules import karras_sigmas
from ict_jax.evaluation.search import greedy_search, ternary_search

GRID = karras_sigmas(1281, sigma_min=0.002, sigma_max=80.0, rho=7.0)


@pytest.mark.parametrize("best", [0, 1, 2, 13, 50, 98, 99])
@pytest.mark.parametrize("power", [1, 2])
def test_the_least_cost_is_found_in_few_calls(best, power):
    asked = set()

    def cost(i):
        asked.add(i)
        return abs(i - best) ** power

    assert ternary_search(cost, 0, 99) == best
    assert len(asked) <= 22


def test_steep_on_one_side_and_monotone():
    assert ternary_search(lambda i: i, 3, 40) == 3
    assert ternary_search(lambda i: -i, 3, 40) == 40
    assert ternary_search(lambda i: 0, 5, 5) == 5
    assert (
        ternary_search(lambda i: (i - 7) * (10 if i < 7 else 0.1) * (-1 if i < 7 else 1), 0, 60)
        == 7
    )


def test_the_papers_levels_lie_on_the_grid_and_are_found():
    """iCT's second level of CIFAR-10 is 0.821 (index 492, from the smallest)."""
    asked = []

    def distance(sigmas):
        asked.append(sigmas)
        levels = [0.821, 0.1][: len(sigmas) - 1]
        return (
            3 - 0.1 * len(sigmas) + sum(abs(a - b) for a, b in zip(sigmas[1:], levels, strict=True))
        )

    found = greedy_search(distance, GRID, 3)
    assert [len(schedule["sigmas"]) for schedule in found] == [1, 2, 3]
    assert found[0]["sigmas"] == [80.0]
    assert found[1]["indices"] == [1280, 492] and round(found[1]["sigmas"][1], 3) == 0.821
    assert abs(found[2]["sigmas"][2] - 0.1) < 0.001
    assert found[2]["sigmas"][:2] == found[1]["sigmas"]
    assert len(asked) == len(set(asked)) < 70
    assert found[1]["distance"] == distance(tuple(found[1]["sigmas"]))


def test_a_level_is_searched_below_the_one_before():
    found = greedy_search(lambda sigmas: -sigmas[-1] + len(sigmas), GRID, 4)
    assert [schedule["indices"][-1] for schedule in found] == [1280, 1279, 1278, 1277]


def test_no_more_steps_than_levels():
    with pytest.raises(ict_jax.ArgumentError, match="--steps=5 must be at least 1 and less than"):
        greedy_search(lambda sigmas: 0.0, GRID[:5], 5)
    with pytest.raises(ict_jax.ArgumentError, match="the grid has no level left; use --steps=2"):
        greedy_search(lambda sigmas: sigmas[-1], GRID, 4)
