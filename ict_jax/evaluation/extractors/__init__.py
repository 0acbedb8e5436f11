"""Pretrained networks that extract the features in which images are compared."""

import os

from ict_jax.core.errors import require
from ict_jax.evaluation.extractors.base import Extracted as Extracted
from ict_jax.evaluation.extractors.base import Extractor
from ict_jax.evaluation.extractors.inception import inception_extractor
from ict_jax.evaluation.extractors.lite0 import lite0_extractor


def find_extractor(name: str, weights: str | os.PathLike | None = None) -> Extractor:
    """Load `inception` (the FID network), from the file of weights, or `lite0`.

    Raises:
      ArgumentError: the name is unknown, or the weights are missing or wrong.
    """
    if name == "inception":
        return inception_extractor(weights)
    require(name == "lite0", f"the extractor {name!r} is unknown; use one of inception, lite0.")
    require(
        weights is None,
        f"weights={weights} was given for lite0, which comes with its own; leave it out, or use "
        "the extractor inception.",
    )
    return lite0_extractor()
