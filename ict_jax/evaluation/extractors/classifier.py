"""A small classifier trained on a data set's own labels, as a feature extractor."""

import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ict_jax.core.randomness import seed_key
from ict_jax.data import Dataset, measured_part
from ict_jax.evaluation.extractors.base import CLASSIFIER, Extracted, Extractor
from ict_jax.training.step import scale_images

FEATURES = 64
STEPS = 1500
BATCH_SIZE = 128
LARGEST_SIDE = 32
"""Larger images would take minutes and add little about their class."""


class Classifier(nn.Module):
    """Two convolutions and a dense layer of 64 features; returns (logits, features).

    Images of 64 pixels and more are first average-pooled to between 32 and 63.
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


def train_classifier(dataset: Dataset) -> Extractor:
    """Train a classifier on the training split, deterministically (seed 0).

    Takes 1,500 steps of 128 images with AdamW (1e-3, weight decay 0.01). `Extractor.scale` is the
    root mean square of the features over the training split.
    """
    model = Classifier(dataset.num_classes)
    tx = optax.adamw(1e-3, weight_decay=1e-2)
    params = model.init(seed_key(0), jnp.zeros((1, *dataset.image_shape)))

    def loss(params: dict, images: Array, labels: Array) -> Array:
        logits, _ = model.apply(params, scale_images(images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params: dict, opt_state: optax.OptState, images: Array, labels: Array) -> tuple:
        updates, opt_state = tx.update(jax.grad(loss)(params, images, labels), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = tx.init(params)
    rng = np.random.default_rng(0)
    train = dataset.train
    for _ in range(STEPS):
        examples = train.read(rng.integers(0, train.size, BATCH_SIZE))
        params, opt_state = step(params, opt_state, *examples)

    def apply(params: dict, images: Array) -> Extracted:
        outputs: Any = model.apply(params, scale_images(images))
        logits, features = outputs
        return Extracted(features, logits)

    weights = jax.tree.map(np.asarray, params)
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(weights)))
    measured, compiled = measured_part(train).images, jax.jit(apply)
    parts = (measured[start : start + 1000] for start in range(0, len(measured), 1000))
    features = [np.asarray(compiled(weights, part).features, np.float64) for part in parts]
    scale = float(np.sqrt((np.concatenate(features) ** 2).mean()))
    return Extractor(CLASSIFIER, weights, apply, digest.hexdigest(), scale)
