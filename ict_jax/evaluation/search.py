"""Noise levels for multistep sampling, one after the other, by ternary search."""

from collections.abc import Callable, Sequence

from ict_jax.core.errors import require

Distance = Callable[[tuple[float, ...]], float]
"""`distance(sigmas)` -> how far samples at descending noise levels are from real images."""


def ternary_search(cost: Callable[[int], float], low: int, high: int) -> int:
    """The whole number in [low, high] with the least cost, if the cost falls and then rises.

    Each time the third is left out that does not hold the minimum; the last few are all tried.

    Raises:
      ArgumentError: low > high.
    """
    require(low <= high, f"there is no whole number from {low} to {high}; widen the range.")
    while high - low > 3:
        third = (high - low) // 3
        left, right = low + third, high - third
        if cost(left) < cost(right):
            high = right - 1
        else:
            low = left + 1
    return min(range(low, high + 1), key=cost)


def greedy_search(distance: Distance, grid: Sequence[float], steps: int) -> list[dict]:
    """Schedules of 1 to `steps` noise levels; each adds one level to the one before.

    A level is searched between the last one and the smallest of the grid.

    Source: CM, Section 3 and its code: greedy ternary search over the indices of the Karras grid,
    assuming the distance falls and then rises.

    Args:
      distance: of samples at noise levels; called once for each schedule.
      grid: ascending noise levels, the last of them the model's sigma_max.
      steps: noise levels of the longest schedule.

    Returns:
      For each schedule its `sigmas`, the `indices` into the grid and the `distance`.

    Raises:
      ArgumentError: steps < 1, or more than the grid has room for.
    """
    require(
        1 <= steps < len(grid),
        f"--steps={steps} must be at least 1 and less than the {len(grid)} levels of the grid.",
    )
    known: dict[tuple[int, ...], float] = {}

    def cost(indices: tuple[int, ...]) -> float:
        if indices not in known:
            known[indices] = distance(tuple(float(grid[i]) for i in indices))
        return known[indices]

    chosen: tuple[int, ...] = (len(grid) - 1,)
    found: list[tuple[int, ...]] = [chosen]
    for _ in range(steps - 1):
        require(
            chosen[-1] >= 2,
            f"below {grid[chosen[-1]]:.4g} the grid has no level left; use --steps={len(chosen)}.",
        )
        best = ternary_search(lambda i, before=chosen: cost((*before, i)), 1, chosen[-1] - 1)
        chosen = (*chosen, best)
        found.append(chosen)
    return [
        {
            "sigmas": [float(grid[i]) for i in indices],
            "indices": list(indices),
            "distance": cost(indices),
        }
        for indices in found
    ]
