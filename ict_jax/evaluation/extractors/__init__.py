"""Pretrained networks in whose features images are compared, each under its own name."""

import os

from ict_jax.core.errors import require
from ict_jax.evaluation.extractors.base import Extracted, Extractor, to_rgb
from ict_jax.evaluation.extractors.inception import inception_extractor, inception_taps
from ict_jax.evaluation.extractors.lite0 import lite0_extractor

NAMES = ("inception", "lite0")


def find_extractor(name: str, weights: str | os.PathLike | None = None) -> Extractor:
    """A pretrained network by its short name, with its weights.

    Args:
      name: `inception` (the FID network) or `lite0`.
      weights: the file of the FID network's weights; see `inception_extractor` for the default.
        `lite0` has its own.

    Raises:
      ArgumentError: the name is unknown, or the weights are not there or not right.
    """
    require(
        name in NAMES,
        f"the extractor {name!r} is unknown; use one of {', '.join(NAMES)}.",
    )
    if name == "inception":
        return inception_extractor(weights)
    require(
        weights is None,
        f"weights={weights} was given for lite0, which comes with its own; leave it out, or use "
        "the extractor inception.",
    )
    return lite0_extractor()


__all__ = [
    "NAMES",
    "Extracted",
    "Extractor",
    "find_extractor",
    "inception_extractor",
    "inception_taps",
    "lite0_extractor",
    "to_rgb",
]
