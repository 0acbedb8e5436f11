"""Greedy ternary search for the noise levels of multistep sampling."""

import functools
import json
from collections.abc import Callable, Sequence

from etils import epath

from ict_jax.core.errors import require
from ict_jax.evaluation.score_file import write_json
from ict_jax.runtime.processes import broadcast_from_main, is_main


def ternary_search(cost: Callable[[int], float], low: int, high: int) -> int:
    """Return the integer in [low, high] with the least cost, if the cost falls and then rises.

    Each iteration drops the third that cannot contain the minimum; the last few are all tried.

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


def greedy_search(
    distance: Callable[[tuple[float, ...]], float], grid: Sequence[float], steps: int
) -> list[dict]:
    """Find schedules of 1 to `steps` noise levels, each adding one level to the one before.

    Each level is searched between the previous one and the smallest of the grid.

    Source: CM, Section 3 and its code: greedy ternary search over the indices of the Karras grid,
    assuming the distance falls and then rises.

    Args:
      distance: distance of samples at descending noise levels; called once per schedule.
      grid: ascending noise levels up to the model's sigma_max.
      steps: noise levels of the longest schedule.

    Returns:
      For each schedule its `sigmas`, their `indices` in the grid and the `distance`.

    Raises:
      ArgumentError: steps < 1, or more than fit in the grid.
    """
    require(
        1 <= steps < len(grid),
        f"--steps={steps} must be at least 1 and less than the {len(grid)} levels of the grid.",
    )

    @functools.cache
    def cost(indices: tuple[int, ...]) -> float:
        return distance(tuple(float(grid[i]) for i in indices))

    found: list[tuple[int, ...]] = [(len(grid) - 1,)]
    while len(found) < steps:
        last = found[-1]
        require(
            last[-1] >= 2,
            f"below {grid[last[-1]]:.4g} the grid has no level left; use --steps={len(last)}.",
        )
        best = ternary_search(lambda i, last=last: cost((*last, i)), 1, last[-1] - 1)
        found.append((*last, best))
    return [
        {
            "sigmas": [float(grid[i]) for i in indices],
            "indices": list(indices),
            "distance": cost(indices),
        }
        for indices in found
    ]


class DistanceCache:
    """`cache.get(key, compute)` computes each distance once, even across interruptions."""

    def __init__(self, path: epath.Path):
        """Read the file of an earlier run; an unreadable one counts as empty."""
        self._path = path
        try:
            found = json.loads(path.read_text())
            self._distances = {key: float(distance) for key, distance in found.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            self._distances = {}

    def get(self, key: str, compute: Callable[[], float]) -> float:
        """Return the distance of a key, computing it if missing; the same in all processes."""
        if not broadcast_from_main(key in self._distances):
            self._distances[key] = broadcast_from_main(compute())
            if is_main():
                write_json(self._path, self._distances)
        return broadcast_from_main(self._distances.get(key, 0.0))
