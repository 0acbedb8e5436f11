"""Distances that took long to compute, in a file."""

import json
from collections.abc import Callable

from etils import epath

from ict_jax.files import write_at_once
from ict_jax.processes import from_main, is_main


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
        if not from_main(key in self._numbers):
            self._numbers[key] = from_main(compute())
            if is_main():
                text = json.dumps(self._numbers, indent=2) + "\n"
                write_at_once(self._path, text.encode())
        return from_main(self._numbers.get(key, 0.0))
