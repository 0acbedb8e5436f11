"""What a compiled program says of itself: the collectives between its devices."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_INSTRUCTION = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]+(\d+)(?:[a-z]\w*)?)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective instruction.

    Attributes:
      kind: one of `KINDS`.
      dtypes: of its arrays.
      num_bytes: of what each device has after it; of a reduce-scatter, a device's part.
    """

    kind: str
    dtypes: frozenset[str]
    num_bytes: int


def collectives(program: str) -> list[Collective]:
    """The collectives in the text of a compiled program, each as often as it stands there.

    What stands in the body of a loop is counted once.
    """
    found = []
    for line in program.splitlines():
        match = _INSTRUCTION.search(line)
        if match is None:
            continue
        arrays = [(a[0], _num_bytes(*a)) for a in _ARRAY.findall(match[1])]
        # An asynchronous one returns its operands beside its results.
        if match[3] and match[1].startswith("("):
            arrays = arrays[len(arrays) // 2 :]
        found.append(
            Collective(match[2], frozenset(dtype for dtype, _ in arrays), sum(b for _, b in arrays))
        )
    return found


def _num_bytes(dtype: str, bits: str, shape: str) -> int:
    size = math.prod(int(length) for length in shape.split(",") if length)
    return size * {"pred": 1, "bf16": 2}.get(dtype, int(bits or 8) // 8)
