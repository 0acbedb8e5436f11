"""Pretrained networks that extract the features in which images are compared."""

import os

from ict_jax.core.errors import require
from ict_jax.evaluation.extractors.base import Extracted, Extractor, to_rgb
from ict_jax.evaluation.extractors.inception import inception_extractor, inception_taps
from ict_jax.evaluation.extractors.lite0 import lite0_extractor

EXTRACTOR_NAMES = ("inception", "lite0")


def find_extractor(name: str, weights: str | os.PathLike | None = None) -> Extractor:
    """Load a pretrained network by its short name.

    Args:
      name: `inception` (the FID network) or `lite0`.
      weights: file of the FID network's weights; default: as `inception_extractor`.

    Raises:
      ArgumentError: the name is unknown, or the weights are missing or wrong.
    """
    require(
        name in EXTRACTOR_NAMES,
        f"the extractor {name!r} is unknown; use one of {', '.join(EXTRACTOR_NAMES)}.",
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
    "EXTRACTOR_NAMES",
    "Extracted",
    "Extractor",
    "find_extractor",
    "inception_extractor",
    "inception_taps",
    "lite0_extractor",
    "to_rgb",
]
