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
SPLITS = 10
SUBSET = 1000


def distance_name(extractor: str) -> str:
    """`fid` is the Fréchet distance in the features of the FID network, and of no other."""
    return "fid" if extractor == INCEPTION else f"fd_{extractor}"


def measure(samples: Collected, reference: Reference) -> dict[str, Any]:
    """All scores that apply, each with its uncertainty.

    Args:
      samples: in the features of the reference.
      reference: real images.

    Returns:
      `n`; the Fréchet distance, with the standard error from the draw of the samples; `kid`, over
      100 subsets of 1,000, or half of what there is; `precision` and `recall` (k = 3) against the
      reference's features, with binomial standard errors; and `inception_score` over 10 splits,
      of the FID network alone.

    Raises:
      ArgumentError: features are not finite, or too few.
    """
    extractor = reference.extract.extractor.name
    features, n = samples.features, len(samples.features)
    own = moments(features)
    scores: dict[str, Any] = {
        "n": n,
        distance_name(extractor): {
            "value": frechet_distance(own, reference.moments),
            "standard_error": frechet_standard_error(features, own, reference.moments),
        },
    }
    size = min(SUBSET, n // 2, len(reference.features) // 2)
    value, error = kid(features, reference.features, size=size)
    scores["kid"] = {"value": value, "standard_error": error, "subset": size}
    if min(n, len(reference.features)) > NEIGHBOUR:
        found = precision_recall(reference.features, features, k=NEIGHBOUR)
        for name, share, total in (
            ("precision", found.precision, n),
            ("recall", found.recall, len(reference.features)),
        ):
            scores[name] = {
                "value": share,
                "standard_error": float(np.sqrt(share * (1 - share) / total)),
            }
    if samples.logits is not None and extractor == INCEPTION and n >= SPLITS:
        mean, std = inception_score(samples.logits, splits=SPLITS, seed=2020)
        scores["inception_score"] = {"value": mean, "std_of_splits": std}
    note = rank_warning(n, features.shape[1])
    if note is not None:
        scores["warning"] = note
    return scores


class AgainstSet:
    """Compare samples with one set of real images, as FID does. The protocols but `held-out`."""

    needs_images = False

    def __init__(self, reference: Reference, held_out: UInt8[np.ndarray, "n h w c"] | None = None):
        """Prepare.

        Args:
          reference: the real images.
          held_out: real images that are not in the reference, for the floor.
        """
        self.reference, self.extract = reference, reference.extract
        self._held_out = None if held_out is None or len(held_out) < 4 else held_out

    def record(self) -> dict[str, Any]:
        """What makes scores comparable, for the results."""
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
        """Fréchet distance to the reference."""
        return frechet_distance(moments(samples.features), self.reference.moments)

    def scores(self, samples: Collected) -> dict[str, Any]:
        """As `measure`; and the distance of as many samples as the floor has images."""
        scores = measure(samples, self.reference)
        if self._held_out is not None:
            first = samples._replace(features=samples.features[: len(self._held_out)])
            scores["distance_of_as_many_as_floor"] = self.distance(first)
        return scores

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Scores of real images that are not in the reference, `floor`, if there are any."""
        if self._held_out is None:
            return {}
        return {"floor": measure(self.extract(self._held_out), self.reference)}
