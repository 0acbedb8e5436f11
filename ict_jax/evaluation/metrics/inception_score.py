"""Inception Score from the logits of a classifier, in float64 on the host."""

from typing import NamedTuple

import numpy as np

from ict_jax.core.errors import require


class InceptionScore(NamedTuple):
    """Mean and standard deviation (ddof 0) over splits, as papers report them."""

    mean: float
    std: float


def inception_score(
    logits: np.ndarray, *, splits: int = 10, seed: int | None = None
) -> InceptionScore:
    """Compute exp(E_x KL(p(y|x) || p(y))) of each split of logits [n, c], p(y) its mean.

    Split i holds rows i n // splits to (i + 1) n // splits: sizes differ by at most one and no
    image is left out. With one split the std is 0.

    Scores are comparable only for the same classifier, number of images and number of splits.

    Source: Salimans et al. 2016, Section 4; splits as in their code and in torch-fidelity.

    Args:
      logits: one row per image.
      splits: number of parts.
      seed: if given, rows are first shuffled by NumPy's `RandomState(seed)`, whose stream is
        frozen, as torch-fidelity does with seed 2020; needed for sorted images, as by class.

    Raises:
      ArgumentError: not a matrix, a value is not finite, splits < 1, or fewer images than
        splits.
    """
    logits = np.asarray(logits)
    require(
        logits.ndim == 2 and logits.shape[1] >= 2,
        f"logits have shape {logits.shape}, expected [n, c] with c >= 2 classes; give one row "
        "per image.",
    )
    require(
        bool(np.isfinite(logits).all()),
        "logits contain NaN or Inf, expected finite numbers; check the samples first.",
    )
    n = len(logits)
    require(splits >= 1, f"splits={splits} must be at least 1; 10 is usual.")
    require(
        n >= splits,
        f"{n} images were given for splits={splits}, expected at least one in each; draw more "
        "or use fewer splits.",
    )
    order = np.arange(n) if seed is None else np.random.RandomState(seed).permutation(n)
    scores = [_score(logits[order[i * n // splits : (i + 1) * n // splits]]) for i in range(splits)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: np.ndarray) -> float:
    log_p = logits.astype(np.float64)
    log_p -= _log_sum_exp(log_p, axis=1)
    # Not the logarithm of the mean probability: all may underflow to zero.
    log_q = _log_sum_exp(log_p, axis=0) - np.log(len(log_p))
    return float(np.exp((np.exp(log_p) * (log_p - log_q)).sum(1).mean()))


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis, keepdims=True)
    return largest + np.log(np.exp(x - largest).sum(axis, keepdims=True))
