"""Collectives between devices, in the text of a compiled program."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_INSTRUCTION = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]+(\d+)(?:[a-z]\w*)?)\[([\d,]*)\]")


class Collective(NamedTuple):
    """A collective instruction.

    Attributes:
      kind: one of `KINDS`.
      dtypes: types of its arrays.
      num_bytes: size of the result on each device.
    """

    kind: str
    dtypes: frozenset[str]
    num_bytes: int


def collectives(program: str) -> list[Collective]:
    """Find the collectives in the text of a compiled program; those in a loop count once."""
    found = []
    for line in program.splitlines():
        match = _INSTRUCTION.search(line)
        if match is None:
            continue
        arrays = [(a[0], _num_bytes(*a)) for a in _ARRAY.findall(match[1])]
        # An asynchronous instruction returns its operands before its results.
        if match[3] and match[1].startswith("("):
            arrays = arrays[len(arrays) // 2 :]
        dtypes, sizes = frozenset(dtype for dtype, _ in arrays), [size for _, size in arrays]
        found.append(Collective(match[2], dtypes, sum(sizes)))
    return found


def _num_bytes(dtype: str, bits: str, shape: str) -> int:
    size = math.prod(int(length) for length in shape.split(",") if length)
    return size * {"pred": 1, "bf16": 2}.get(dtype, int(bits or 8) // 8)
