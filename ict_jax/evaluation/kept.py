"""Numbers that took long to compute, in a file."""

import json
from collections.abc import Callable

from etils import epath

from ict_jax.processes import from_main, is_main


class Kept:
    """`kept.get(key, compute)` computes a number once, also when the program was interrupted."""

    def __init__(self, path: epath.Path):
        """Reads what is there; a file that cannot be read counts as empty."""
        self._path = path
        try:
            self._numbers: dict[str, float] = dict(json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            self._numbers = {}

    def get(self, key: str, compute: Callable[[], float]) -> float:
        """The number of a key, computed if it is not there; the same in all processes."""
        if not from_main(key in self._numbers):
            self._numbers[key] = from_main(compute())
            if is_main():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                partial = self._path.with_suffix(".partial")
                partial.write_text(json.dumps(self._numbers, indent=2) + "\n")
                partial.replace(self._path)
        return from_main(self._numbers.get(key, 0.0))
