"""The true consistency function of a finite data set, and the distance of a trained one from it.

For data y_1..y_n with equal weights the denoiser is D(x, sigma) = sum_j p_j y_j with
p_j ~ exp(-||x - y_j||^2 / (2 sigma^2)), and the probability-flow ODE dx/dsigma = (x - D) / sigma.
Its solution from (x, sigma) down to sigma_min is f(x, sigma), computed here by SciPy's DOP853 in
log sigma, in float64.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import softmax

from ict_jax.data import Dataset
from ict_jax.runtime.storage import write_atomically

SIGMAS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 80.0)


class Truth(NamedTuple):
    """Examples and their images under the true consistency function.

    Attributes:
      x: noisy data [sigmas, examples, *dims].
      labels: [sigmas, examples].
      outputs: values of the true function, like x.
    """

    x: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray


def denoise(
    x: np.ndarray, sigma: float, data: np.ndarray, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Compute D(x, sigma) of a finite data set.

    Args:
      x: [b, d].
      sigma: noise level.
      data: [n, d].
      allowed: data that each row of x may come from, bool [b, n]; default: all.
    """
    squared = (x**2).sum(1)[:, None] - 2 * x @ data.T + (data**2).sum(1)[None]
    logits = -squared / (2 * sigma**2)
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    return softmax(logits, axis=1) @ data


def solve(
    x: np.ndarray,
    sigma: float,
    data: np.ndarray,
    allowed: np.ndarray | None = None,
    *,
    sigma_min: float = 0.002,
    tolerance: float = 1e-8,
) -> np.ndarray:
    """Compute f(x, sigma) of a finite data set; arguments as in `denoise`."""

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        current = flat.reshape(x.shape)
        return (current - denoise(current, np.exp(log_sigma), data, allowed)).ravel()

    span = (np.log(sigma), np.log(sigma_min))
    solution = solve_ivp(
        slope, span, x.ravel().astype(np.float64), "DOP853", rtol=tolerance, atol=tolerance
    )
    assert solution.success, solution.message
    return solution.y[:, -1].reshape(x.shape)


def truth(dataset: Dataset, path: Path, *, examples: int = 50) -> Truth:
    """Return noisy training images and the true outputs, given the data of each one's class.

    Args:
      dataset: data set whose training images are the data.
      path: cache file.
      examples: number at each of `SIGMAS`.
    """
    images, labels = dataset.train.images, dataset.train.labels
    marks = hashlib.sha256(images.tobytes() + repr((SIGMAS, examples)).encode()).hexdigest()
    if path.exists():
        with np.load(path) as file:
            cached = dict(file)
        if cached.pop("marks") == marks:
            return Truth(**cached)
    data = images.reshape(len(images), -1) / 127.5 - 1
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(data), size=(len(SIGMAS), examples))
    noise = rng.standard_normal((len(SIGMAS), examples, data.shape[1]))
    x = data[chosen] + np.array(SIGMAS)[:, None, None] * noise
    outputs = np.stack(
        [
            solve(x[i], sigma, data, labels[chosen[i]][:, None] == labels[None])
            for i, sigma in enumerate(SIGMAS)
        ]
    )
    shape = (*chosen.shape, *images.shape[1:])
    found = Truth(x.reshape(shape), labels[chosen], outputs.reshape(shape))
    content = io.BytesIO()
    np.savez(content, marks=marks, **found._asdict())
    write_atomically(path, content.getvalue())
    return found


def denoiser_errors(dataset: Dataset, true: Truth) -> dict[str, float]:
    """Return `errors` of the denoiser of the training data, the best guess that is not a sample."""
    images, classes = dataset.train.images, dataset.train.labels
    data = images.reshape(len(images), -1) / 127.5 - 1

    def guess(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1).astype(np.float64)
        allowed = labels[:, None] == classes[None]
        return denoise(flat, float(sigma[0]), data, allowed).reshape(x.shape)

    return errors(guess, true)


def errors(f: Callable[[Any, Any, Any], Any], true: Truth) -> dict[str, float]:
    """Return the root mean square over values and examples of f(x, sigma, labels) - truth."""
    found = {}
    for sigma, x, labels, outputs in zip(SIGMAS, *true, strict=True):
        predicted = np.asarray(f(x.astype(np.float32), np.full(len(x), sigma, np.float32), labels))
        found[f"{sigma:g}"] = float(np.sqrt(np.mean((predicted - outputs) ** 2)))
    return found
