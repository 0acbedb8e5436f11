"""Noise levels for multistep sampling, one after the other, by ternary search."""

import json
from collections.abc import Callable, Sequence

from etils import epath

from ict_jax.core.errors import require
from ict_jax.runtime.processes import broadcast_from_main, is_main
from ict_jax.runtime.storage import write_at_once

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


class Distances:
    """`distances.get(key, compute)` computes one once, also when the program was interrupted."""

    def __init__(self, path: epath.Path):
        """Reads what is there; a file that cannot be read counts as empty."""
        self._path = path
        try:
            found = json.loads(path.read_text())
            self._numbers = {key: float(number) for key, number in found.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            self._numbers = {}

    def get(self, key: str, compute: Callable[[], float]) -> float:
        """The distance of a key, computed if it is not there; the same in all processes."""
        if not broadcast_from_main(key in self._numbers):
            self._numbers[key] = broadcast_from_main(compute())
            if is_main():
                text = json.dumps(self._numbers, indent=2) + "\n"
                write_at_once(self._path, text.encode())
        return broadcast_from_main(self._numbers.get(key, 0.0))
