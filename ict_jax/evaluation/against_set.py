"""Comparison of samples with a whole set of real images, in the features of any extractor."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from ict_jax.evaluation.extractors.weights import INCEPTION
from ict_jax.evaluation.features import Collected
from ict_jax.evaluation.metrics.frechet import (
    frechet_distance,
    frechet_standard_error,
    moments,
    rank_warning,
)
from ict_jax.evaluation.metrics.inception_score import inception_score
from ict_jax.evaluation.metrics.kid import kid
from ict_jax.evaluation.metrics.precision_recall import precision_recall
from ict_jax.evaluation.references import Reference

NEIGHBOUR = 3
INCEPTION_SPLITS = 10
KID_SUBSET = 1000


def distance_name(extractor: str) -> str:
    """Return `fid` for the FID network, and `fd_EXTRACTOR` for any other."""
    return "fid" if extractor == INCEPTION else f"fd_{extractor}"


def measure(samples: Collected, reference: Reference) -> dict[str, Any]:
    """Compute all scores that apply, each with its uncertainty.

    Args:
      samples: features of the samples.
      reference: real images in the same features.

    Returns:
      `n`; the Fréchet distance, with the standard error due to the draw of the samples; `kid`, over
      100 subsets of 1,000 or half the smaller set; `precision` and `recall` (k = 3) against the
      reference's features, with binomial standard errors; and, for the FID network alone,
      `inception_score` over 10 splits.

    Raises:
      ArgumentError: features are not finite, or too few.
    """
    extractor = reference.extract.extractor.name
    features, n, n_real = samples.features, len(samples.features), len(reference.features)
    own = moments(features)
    value = frechet_distance(own, reference.moments)
    error = frechet_standard_error(features, own, reference.moments)
    name = distance_name(extractor)
    scores: dict[str, Any] = {"n": n, name: {"value": value, "standard_error": error}}
    size = min(KID_SUBSET, n // 2, n_real // 2)
    value, error = kid(features, reference.features, size=size)
    scores["kid"] = {"value": value, "standard_error": error, "subset": size}
    if min(n, n_real) > NEIGHBOUR:
        shares = precision_recall(reference.features, features, k=NEIGHBOUR)
        for (name, share), total in zip(shares._asdict().items(), (n, n_real), strict=True):
            error = float(np.sqrt(share * (1 - share) / total))
            scores[name] = {"value": share, "standard_error": error}
    if samples.logits is not None and extractor == INCEPTION and n >= INCEPTION_SPLITS:
        mean, std = inception_score(samples.logits, splits=INCEPTION_SPLITS, seed=2020)
        scores["inception_score"] = {"value": mean, "std_of_splits": std}
    warning = rank_warning(n, features.shape[1])
    return scores if warning is None else {**scores, "warning": warning}


class AgainstSet:
    """Comparison with one set of real images, as in FID; for all protocols but `held-out`."""

    needs_images = False

    def __init__(self, reference: Reference, held_out: UInt8[np.ndarray, "n h w c"] | None = None):
        """Compare with a reference; the floor is scored on held-out images outside it."""
        self.reference, self.extract = reference, reference.extract
        self._held_out = None if held_out is None or len(held_out) < 4 else held_out

    def record(self) -> dict[str, Any]:
        """Describe the extractor and the reference."""
        reference, extractor = self.reference, self.extract.extractor
        return {
            "extractor": {"name": extractor.name, "sha256": extractor.digest},
            "reference": {
                "name": reference.name,
                "sha256": reference.digest,
                "n": reference.size,
                "features": len(reference.features),
            },
        }

    def distance(self, samples: Collected) -> float:
        """Compute the Fréchet distance to the reference."""
        return frechet_distance(moments(samples.features), self.reference.moments)

    def scores(self, samples: Collected) -> dict[str, Any]:
        """Compute `measure`, and the distance of as many samples as the floor has images."""
        scores = measure(samples, self.reference)
        if self._held_out is not None:
            first = samples._replace(features=samples.features[: len(self._held_out)])
            scores["distance_of_as_many_as_floor"] = self.distance(first)
        return scores

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Score real images outside the reference as `floor`, if there are any."""
        if self._held_out is None:
            return {}
        return {"floor": measure(self.extract(self._held_out), self.reference)}
