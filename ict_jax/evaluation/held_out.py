"""Comparison of samples with held-out real images, with a floor and trivial baselines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from ict_jax.core.errors import require
from ict_jax.data import Dataset, statistics_subset
from ict_jax.evaluation.extractors.classifier import load_classifier
from ict_jax.evaluation.features import Collected, FeatureExtractor, content_hash
from ict_jax.evaluation.grids import to_uint8
from ict_jax.evaluation.metrics.frechet import frechet_distance, moments
from ict_jax.evaluation.metrics.kid import kernel_distance
from ict_jax.runtime.console import say

NUM_SPLITS = 20
CONFIDENT = 0.9


def check_held_out(dataset: Dataset) -> None:
    """Raise `ArgumentError` if too few images are held out for scores."""
    validation, test = dataset.validation.size, dataset.test.size
    require(
        validation >= 2 and test >= 4,
        f"{dataset.name} has {validation} images for validation and {test} for test, and scores "
        "need at least 2 and 4; add images, or train with evaluation.every_steps=None and "
        "evaluation.at_end=False.",
    )


class HeldOut:
    """Comparison with the test split, in the features of a classifier of the same data set.

    Neither the generator nor the classifier was trained on the test split. In each of 20 random
    splits of it, one half is the reference; the other half (floor) or n samples (scores) are
    compared with it, so both are distances at the same n to the same references.
    """

    needs_images = True

    def __init__(self, dataset: Dataset, mesh: Mesh, *, num_samples: int = 5000):
        """Train the classifier and extract the features of the real images.

        Raises:
          ArgumentError: num_samples < 2, or too few images are held out.
        """
        require(
            num_samples >= 2,
            f"evaluation.num_samples={num_samples} must be at least 2; 5,000 is usual.",
        )
        check_held_out(dataset)
        self._dataset, self._num_samples = dataset, num_samples
        say("training the classifier whose features scores are measured in")
        self.extract = FeatureExtractor(load_classifier(dataset), mesh)
        self._test = self.extract(dataset.test.images)
        self._validation = moments(self._scale(self.extract(dataset.validation.images)))
        self.n = min(num_samples, dataset.test.size // 2)
        rng = np.random.default_rng(0)
        self._splits = [rng.permutation(dataset.test.size) for _ in range(NUM_SPLITS)]

    def record(self) -> dict[str, Any]:
        """Describe the classifier and the reference."""
        test, logits, extractor = self._dataset.test, self._test.logits, self.extract.extractor
        assert logits is not None
        accuracy = float((logits.argmax(1) == test.labels).mean())
        return {
            "extractor": {"name": extractor.name, "sha256": extractor.digest, "accuracy": accuracy},
            "reference": {
                "name": f"{self._dataset.name}, test split",
                "sha256": content_hash(test),
                "n": self.n,
                "splits": NUM_SPLITS,
            },
        }

    def distance(self, samples: Collected) -> float:
        """Compute the Fréchet distance to the validation split."""
        return frechet_distance(moments(self._scale(samples)), self._validation)

    def scores(self, samples: Collected) -> dict[str, Any]:
        """Score at least n samples against real images.

        Returns:
          `n`; `fd_classifier` and `kid`, means and standard deviations over the splits;
          `confident`, the share classified with confidence above 0.9; and
          `nearest_training_image`, as `nearest`.
        """
        require(
            len(samples.features) >= self.n,
            f"{len(samples.features)} samples were given and n={self.n} are compared; draw more.",
        )
        rng, count = np.random.default_rng(1), len(samples.features)
        chosen = [rng.choice(count, self.n, replace=False) for _ in range(NUM_SPLITS)]
        return self._compare(samples, chosen)

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Score real images as `floor`, and the trivial baselines."""
        pools = {"gaussian": self.gaussian(), "noise": self.noise()}
        scores = {name: self.scores(self.extract(pool)) for name, pool in pools.items()}
        return {"floor": self.floor(), **scores}

    def floor(self) -> dict[str, Any]:
        """Compare the two halves of the test split."""
        return self._compare(self._test, [order[self.n : 2 * self.n] for order in self._splits])

    def noise(self) -> UInt8[np.ndarray, "n h w c"]:
        """Draw clipped standard normal noise, like the samples of an untrained model."""
        rng = np.random.default_rng(2)
        shape = (self._num_samples, *self._dataset.image_shape)
        return to_uint8(rng.standard_normal(shape))

    def gaussian(self) -> UInt8[np.ndarray, "n h w c"]:
        """Draw from the normal distribution with the training images' mean and covariance."""
        rng = np.random.default_rng(3)
        flat = _flat(statistics_subset(self._dataset.train).images)
        n, d = flat.shape
        if n > d:
            values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
            root = vectors * np.sqrt(np.maximum(values, 0))
        else:  # root @ root.T is the rank-deficient covariance, without an eigendecomposition
            root = (flat - flat.mean(0)).T / np.sqrt(n - 1)
        draws = flat.mean(0) + rng.standard_normal((self._num_samples, root.shape[1])) @ root.T
        return to_uint8(draws.reshape(-1, *self._dataset.image_shape))

    def nearest(self, images: UInt8[np.ndarray, "m h w c"]) -> dict[str, float]:
        """Compute distances of up to 1,000 images, in [-1, 1], to their nearest training images.

        Copies have distances near zero; compare with those of held-out images.
        """
        a, b = _flat(images[:1000]), _flat(statistics_subset(self._dataset.train).images)
        squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        distances = np.sqrt(np.maximum(squared.min(1), 0))
        return {
            "median": float(np.median(distances)),
            "percentile_5": float(np.percentile(distances, 5)),
        }

    def _compare(self, samples: Collected, chosen: Sequence[np.ndarray]) -> dict[str, Any]:
        """Compare in each split the chosen rows of the samples with the reference half."""
        real, scaled = self._scale(self._test), self._scale(samples)
        fds, kids = [], []
        for order, rows in zip(self._splits, chosen, strict=True):
            reference, features = real[order[: self.n]], scaled[rows]
            fds.append(frechet_distance(moments(features), moments(reference)))
            kids.append(kernel_distance(features, reference))
        assert samples.logits is not None and samples.images is not None
        return {
            "n": self.n,
            f"fd_{self.extract.extractor.name}": _mean_and_spread(fds),
            "kid": _mean_and_spread(kids),
            "confident": {"value": float((_confidence(samples.logits) > CONFIDENT).mean())},
            "nearest_training_image": self.nearest(samples.images),
        }

    def _scale(self, samples: Collected) -> Float[np.ndarray, "n d"]:
        return samples.features.astype(np.float64) / self.extract.extractor.scale


def _mean_and_spread(values: list[float]) -> dict[str, float]:
    return {"value": float(np.mean(values)), "std_of_splits": float(np.std(values, ddof=1))}


def _confidence(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """Return the probability of the most likely class, in float64."""
    shifted = logits.astype(np.float64)
    shifted = np.exp(shifted - shifted.max(1, keepdims=True))
    return (shifted / shifted.sum(1, keepdims=True)).max(1)


def _flat(images: UInt8[np.ndarray, "n h w c"]) -> np.ndarray:
    """Return images as rows of values in [-1, 1]."""
    return images.reshape(len(images), -1) / 127.5 - 1
