"""A small classifier trained on a data set's own labels, as a feature extractor."""

import hashlib
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ict_jax.checkpoints.interop.arrays import arrays_digest
from ict_jax.core.randomness import seed_key
from ict_jax.data import Dataset, statistics_subset
from ict_jax.evaluation.extractors.base import CLASSIFIER, Extracted, Extractor
from ict_jax.evaluation.features import content_hash, encode_npz, read_npz
from ict_jax.runtime.console import best_effort
from ict_jax.runtime.processes import all_processes, broadcast_from_main
from ict_jax.runtime.storage import cache_directory, to_path, write_atomically
from ict_jax.training.step import scale_images

FEATURES = 64
STEPS = 1500
BATCH_SIZE = 128
SCALE = "scale"
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


def load_classifier(dataset: Dataset) -> Extractor:
    """Load the classifier of a data set, or train it once (`train_classifier`) and cache it.

    It is cached in `cache_directory("classifiers")` by a hash of the training images and labels (of
    a large set, of those that `statistics_subset` chooses).
    """
    part = statistics_subset(dataset.train)
    recipe = (dataset.train.size, dataset.num_classes, FEATURES, STEPS, BATCH_SIZE, LARGEST_SIDE)
    identity = f"{content_hash(part)} {part.labels.tolist()} {recipe}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    path = to_path(cache_directory("classifiers") / f"{name}.npz")
    arrays = read_npz(path, {SCALE, *_flatten(_init_params(dataset))})
    # All processes must use the same weights, and each host has a cache of its own.
    code = 0 if arrays is None else int(arrays_digest(arrays)[:6], 16)
    same = broadcast_from_main(code) == code
    if not all_processes(same and arrays is not None) or arrays is None:
        extractor = train_classifier(dataset)
        with best_effort(f"the classifier {path}"):
            arrays = {SCALE: np.float64(extractor.scale), **_flatten(extractor.weights)}
            write_atomically(path, encode_npz(arrays))
        return extractor
    scale = float(arrays.pop(SCALE))
    return _as_extractor(dataset, flax.traverse_util.unflatten_dict(arrays, sep="/"), scale)


def train_classifier(dataset: Dataset) -> Extractor:
    """Train a classifier on the training split, deterministically (seed 0).

    Takes 1,500 steps of 128 images with AdamW (1e-3, weight decay 0.01). `Extractor.scale` is the
    root mean square of the features over the training split.
    """
    model = Classifier(dataset.num_classes)
    tx = optax.adamw(1e-3, weight_decay=1e-2)
    params = _init_params(dataset)

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

    extractor = _as_extractor(dataset, jax.tree.map(np.asarray, params), 1.0)
    measured, compiled = statistics_subset(train).images, jax.jit(extractor.apply)
    parts = (measured[start : start + 1000] for start in range(0, len(measured), 1000))
    features = [np.asarray(compiled(params, part).features, np.float64) for part in parts]
    return extractor._replace(scale=float(np.sqrt((np.concatenate(features) ** 2).mean())))


def _init_params(dataset: Dataset) -> Any:
    return Classifier(dataset.num_classes).init(seed_key(0), jnp.zeros((1, *dataset.image_shape)))


def _as_extractor(dataset: Dataset, weights: dict, scale: float) -> Extractor:
    def apply(params: dict, images: Array) -> Extracted:
        outputs: Any = Classifier(dataset.num_classes).apply(params, scale_images(images))
        logits, features = outputs
        return Extracted(features, logits)

    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(weights)))
    return Extractor(CLASSIFIER, weights, apply, digest.hexdigest(), scale)


def _flatten(params: dict) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(params, sep="/")
