"""A small classifier trained on a data set's own labels: the feature space of our scores."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from ict_jax.core.randomness import seed_key
from ict_jax.data import Dataset, ImageSet, measured_part
from ict_jax.training.step import scale_images

FEATURES = 64
STEPS = 1500
BATCH_SIZE = 128
LARGEST_SIDE = 32
"""Larger images would take minutes and tell hardly more about their class."""


class Classifier(nn.Module):
    """Two convolutions and a dense layer of 64 features; returns (logits, features).

    Images of twice 32 pixels and more are first averaged down to between 32 and 63.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b classes"], Float[Array, "b features"]]:
        factor = max(1, min(x.shape[1:3]) // LARGEST_SIDE)
        if factor > 1:
            x = nn.avg_pool(x, (factor, factor), strides=(factor, factor))
        h = nn.relu(nn.Conv(16, (3, 3))(x))
        h = nn.relu(nn.Conv(32, (3, 3), strides=(2, 2))(h))
        features = nn.relu(nn.Dense(FEATURES)(h.reshape(len(h), -1)))
        return nn.Dense(self.num_classes)(features), features


class Described(NamedTuple):
    """What the classifier says of n images."""

    features: Float[np.ndarray, "n features"]
    confidence: Float[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]


class Extractor:
    """A classifier trained on the training split, the same for the same data (seed 0)."""

    def __init__(self, dataset: Dataset):
        """Trains for 1,500 steps of 128 images with AdamW (1e-3, weight decay 0.01)."""
        model = Classifier(dataset.num_classes)
        tx = optax.adamw(1e-3, weight_decay=1e-2)
        params = model.init(seed_key(0), jnp.zeros((1, *dataset.image_shape)))

        def loss(params: dict, images: Array, labels: Array) -> Array:
            logits, _ = model.apply(params, scale_images(images))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        @jax.jit
        def step(params: dict, opt_state: optax.OptState, images: Array, labels: Array) -> tuple:
            updates, opt_state = tx.update(
                jax.grad(loss)(params, images, labels), opt_state, params
            )
            return optax.apply_updates(params, updates), opt_state

        opt_state = tx.init(params)
        rng = np.random.default_rng(0)
        train = dataset.train
        for _ in range(STEPS):
            examples = train.read(rng.integers(0, train.size, BATCH_SIZE))
            params, opt_state = step(params, opt_state, *examples)
        self._params = params
        self._scale = 1.0
        self._apply = jax.jit(lambda params, images: model.apply(params, scale_images(images)))
        self._scale = float(np.sqrt((self(measured_part(train).images).features ** 2).mean()))

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Described:
        """Features, confidence and class of each image, in batches of 1,000.

        Features are in units of their root mean square over the training split.
        """
        logits, features = [], []
        for start in range(0, len(images), 1000):
            part = self._apply(self._params, images[start : start + 1000])
            logits.append(np.asarray(part[0], np.float64))
            features.append(np.asarray(part[1], np.float64))
        shifted = np.concatenate(logits)
        shifted = np.exp(shifted - shifted.max(1, keepdims=True))
        probabilities = shifted / shifted.sum(1, keepdims=True)
        return Described(
            np.concatenate(features) / self._scale, probabilities.max(1), probabilities.argmax(1)
        )

    def accuracy(self, data: ImageSet) -> float:
        """Share of a split that is classified right."""
        return float((self(data.images).predicted == data.labels).mean())
