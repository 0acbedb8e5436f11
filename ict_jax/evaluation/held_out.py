"""Scores of samples against held-out real images, always beside their floor and ceilings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ict_jax.core.errors import require
from ict_jax.data import Dataset, measured_part
from ict_jax.evaluation.classifier import Described, Extractor
from ict_jax.evaluation.grids import to_uint8
from ict_jax.evaluation.metrics.frechet import frechet_distance, moments
from ict_jax.evaluation.metrics.kid import kernel_distance
from ict_jax.runtime.processes import from_main

SPLITS = 20
CONFIDENT = 0.9

DrawImages = Callable[[Sequence[float]], UInt8[np.ndarray, "n h w c"]]
"""`draw(sigmas)` -> a pool of sampled images."""


def check_held_out(dataset: Dataset) -> None:
    """Raises `ArgumentError` if too few images are held out for scores."""
    validation, test = dataset.validation.size, dataset.test.size
    require(
        validation >= 2 and test >= 4,
        f"{dataset.name} has {validation} images for validation and {test} for test, and scores "
        "need at least 2 and 4; add images, or train with evaluation.every_steps=None and "
        "evaluation.at_end=False.",
    )


class Scorer:
    """Scores pools of images in the features of a classifier of the same data set.

    The real images scored against are the test split: neither the generator nor the
    classifier was trained on it. In each of 20 random splits one half of it is the
    reference; the other half, or n images of a pool, is compared with it. So floor and
    scores are distances at the same n to the same references.
    """

    def __init__(self, dataset: Dataset, *, num_samples: int = 5000):
        """Trains the classifier and describes the real images.

        Raises:
          ArgumentError: num_samples < 2, or too few images are held out.
        """
        require(
            num_samples >= 2,
            f"evaluation.num_samples={num_samples} must be at least 2; 5,000 is usual.",
        )
        check_held_out(dataset)
        self.dataset = dataset
        self.num_samples = num_samples
        self.extractor = Extractor(dataset)
        self._test = self.extractor(dataset.test.images)
        self._validation = self.extractor(dataset.validation.images)
        self.n = min(num_samples, len(dataset.test.images) // 2)
        rng = np.random.default_rng(0)
        self._splits = [rng.permutation(len(dataset.test.images)) for _ in range(SPLITS)]

    def _compare(self, features_of_split: Callable[[int], np.ndarray]) -> dict[str, float]:
        fds, kids = [], []
        for split, order in enumerate(self._splits):
            reference = self._test.features[order[: self.n]]
            features = features_of_split(split)
            fds.append(frechet_distance(moments(features), moments(reference)))
            kids.append(kernel_distance(features, reference))
        return {
            "fd": float(np.mean(fds)),
            "fd_std": float(np.std(fds, ddof=1)),
            "kid": float(np.mean(kids)),
            "kid_std": float(np.std(kids, ddof=1)),
        }

    def floor(self) -> dict[str, float]:
        """Real against real: the two halves of the test split."""
        halves = [order[self.n : 2 * self.n] for order in self._splits]
        scores = self._compare(lambda split: self._test.features[halves[split]])
        return {**scores, "confident": _confident(self._test)}

    def score(self, pool: UInt8[np.ndarray, "m h w c"]) -> dict[str, float]:
        """A pool of at least n images against real ones."""
        require(
            len(pool) >= self.n,
            f"{len(pool)} samples were given and n={self.n} are compared; draw more.",
        )
        described = self.extractor(pool)
        rng = np.random.default_rng(1)
        chosen = [rng.choice(len(pool), self.n, replace=False) for _ in range(SPLITS)]
        scores = self._compare(lambda split: described.features[chosen[split]])
        return {**scores, "confident": _confident(described)}

    def validation_distance(self, pool: UInt8[np.ndarray, "m h w c"]) -> float:
        """Fréchet distance of a pool to the validation split, for choices and for the best."""
        features = self.extractor(pool).features
        return frechet_distance(moments(features), moments(self._validation.features))

    def noise(self) -> UInt8[np.ndarray, "n h w c"]:
        """Clipped standard normal noise, what an untrained sampler cannot do worse than."""
        rng = np.random.default_rng(2)
        shape = (self.num_samples, *self.dataset.image_shape)
        return to_uint8(rng.standard_normal(shape))

    def gaussian(self) -> UInt8[np.ndarray, "n h w c"]:
        """Draws from the normal law with the training images' mean and covariance."""
        rng = np.random.default_rng(3)
        flat = _flat(measured_part(self.dataset.train).images)
        n, d = flat.shape
        if n > d:
            values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
            root = vectors * np.sqrt(np.maximum(values, 0))
        else:  # the covariance has no full rank, and root @ root.T is it without an eigensystem
            root = (flat - flat.mean(0)).T / np.sqrt(n - 1)
        draws = flat.mean(0) + rng.standard_normal((self.num_samples, root.shape[1])) @ root.T
        return to_uint8(draws.reshape(-1, *self.dataset.image_shape))

    def nearest(self, images: UInt8[np.ndarray, "m h w c"]) -> dict[str, float]:
        """Distances of up to 1,000 images to their nearest training image, in [-1, 1] pixels.

        Samples that were copies would have them near zero; see those of held-out images.
        """
        a, b = _flat(images[:1000]), _flat(measured_part(self.dataset.train).images)
        squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        distances = np.sqrt(np.maximum(squared.min(1), 0))
        return {
            "median": float(np.median(distances)),
            "percentile_5": float(np.percentile(distances, 5)),
        }


def choose_second_sigma(
    distance: Callable[[UInt8[np.ndarray, "n h w c"]], float],
    draw: DrawImages,
    sigma_max: float,
    sigma_min: float,
) -> float:
    """The second noise level of two-step sampling with the least distance of its samples.

    Searched on 16 levels, equal steps apart in log sigma between 0.1 and 20 (where these lie
    within the model's range).

    Args:
      distance: of a pool to the validation split (`Scorer.validation_distance`).
      draw: draws a pool at given noise levels.
      sigma_max: the first level.
      sigma_min: below all candidates.
    """
    candidates = [float(s) for s in np.geomspace(0.1, 20, 16).round(3) if sigma_min < s < sigma_max]
    require(
        bool(candidates),
        f"no candidate between 0.1 and 20 lies in ({sigma_min}, {sigma_max}); give --second_sigma.",
    )
    distances = [distance(draw((sigma_max, s))) for s in candidates]
    return candidates[int(from_main(int(np.argmin(distances))))]


def score_model(
    scorer: Scorer, draw: DrawImages, schedules: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Every score of one model, as written to scores.json.

    Args:
      scorer: of the data set.
      draw: draws a pool of `scorer.num_samples` images at given noise levels.
      schedules: noise levels to draw at, by name.
    """
    pools = {name: draw(sigmas) for name, sigmas in schedules.items()}
    return {
        "n": scorer.n,
        "splits": SPLITS,
        "pool": scorer.num_samples,
        "dataset": scorer.dataset.name,
        "classifier_accuracy": scorer.extractor.accuracy(scorer.dataset.test),
        **{name: scorer.score(pool) for name, pool in pools.items()},
        "floor": scorer.floor(),
        "noise": scorer.score(scorer.noise()),
        "gaussian": scorer.score(scorer.gaussian()),
        "nearest_training_image": {
            **{name: scorer.nearest(pool) for name, pool in pools.items()},
            "held_out": scorer.nearest(scorer.dataset.test.images),
        },
    }


def table(scores: dict[str, Any]) -> str:
    """The scores as a table to print."""
    floor = scores["floor"]["fd"]
    second = scores.get("second_sigma")
    lines = [
        f"{scores['dataset']}: n = {scores['n']}, mean of {scores['splits']} splits"
        + ("" if second is None else f", second sigma {second:g}"),
        f"{'':10} {'Fréchet distance':>18} {'/ floor':>8} {'KID':>18} {'confident':>10}",
    ]
    for name in ("one_step", "two_step", "heun", "floor", "gaussian", "noise"):
        if name not in scores:
            continue
        row = scores[name]
        lines.append(
            f"{name:10} {row['fd']:9.3f} +- {row['fd_std']:5.3f} {row['fd'] / floor:8.2f} "
            f"{row['kid']:9.4f} +- {row['kid_std']:5.4f} {row['confident']:10.1%}"
        )
    nearest = scores["nearest_training_image"]
    lines.append(
        "distance to the nearest training image (median): "
        + ", ".join(f"{name} {value['median']:.3f}" for name, value in nearest.items())
    )
    return "\n".join(lines)


def _flat(images: UInt8[np.ndarray, "n h w c"]) -> np.ndarray:
    """Images as rows of numbers in [-1, 1]."""
    return images.reshape(len(images), -1) / 127.5 - 1


def _confident(described: Described) -> float:
    return float((described.confidence > CONFIDENT).mean())
