"""Every score of a set of samples, from their features."""

from typing import Any

import numpy as np

from ict_jax.evaluation.extractors.weights import INCEPTION
from ict_jax.evaluation.features import Collected
from ict_jax.evaluation.metrics.frechet import (
    frechet_distance,
    frechet_standard_error,
    moments,
    rank_note,
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


def measure(samples: Collected, reference: Reference, extractor: str) -> dict[str, Any]:
    """All scores that apply, each with its uncertainty.

    Args:
      samples: described by the extractor.
      reference: described by the same.
      extractor: its name.

    Returns:
      `n`; the Fréchet distance, with the standard error from the draw of the samples; `kid`, over
      100 subsets of 1,000, or half of what there is; `precision` and `recall` (k = 3) against the
      reference's features, with binomial standard errors; and `inception_score` over 10 splits,
      of the FID network alone.

    Raises:
      ArgumentError: features are not finite, or too few.
    """
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
    note = rank_note(n, features.shape[1])
    if note is not None:
        scores["warning"] = note
    return scores
