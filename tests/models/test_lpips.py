"""LPIPS against the formula in NumPy, and at the edges; the original is in tests/interop."""

import jax
import numpy as np
import pytest

from ict_jax.models import LPIPS
from ict_jax.models import lpips as module
from ict_jax.models.lpips import convolution_names

NARROW = tuple((count, channels // 16) for count, channels in module.VGG16)
RNG = np.random.default_rng(0)


def random_params():
    """Parameters that keep features in the range of numbers, float32."""
    rng, before, convolutions = np.random.default_rng(0), 3, {}
    names = iter(convolution_names())
    for count, channels in NARROW:
        for _ in range(count):
            kernel = rng.normal(size=(3, 3, before, channels)) * np.sqrt(2 / 9 / before)
            bias = rng.normal(size=channels) * 0.1
            convolutions[next(names)] = {"kernel": np.float32(kernel), "bias": np.float32(bias)}
            before = channels
    linear = {
        f"linear{i}": np.float32(rng.uniform(size=channels))
        for i, (_, channels) in enumerate(NARROW, 1)
    }
    return {"vgg16": convolutions, **linear}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A sixteenth of VGG16's channels, so that tests take seconds."""
    monkeypatch.setattr(module, "VGG16", NARROW)


PARAMS = random_params()
SIZE = 24


def images(n):
    return np.float32(RNG.uniform(-1, 1, size=(n, SIZE, SIZE, 3)))


def distance(a, b, params=PARAMS, **fields):
    """Compiled as a whole: one operation after another, this takes ten times as long."""
    network = LPIPS(**{"size": SIZE, **fields})
    return jax.jit(network.apply)({"params": params}, a, b)


def gradient(a, b, params=PARAMS):
    """Of the distance, along a."""
    network = LPIPS(size=SIZE)
    return jax.jit(jax.grad(lambda x: network.apply({"params": params}, x, b).sum()))(a)


def convolved(x, kernel, bias):
    """3x3, zeros around, in float64: nine shifted products."""
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [(i, j, padded[:, i : i + h, j : j + w]) for i in range(3) for j in range(3)]
    return sum(part @ np.float64(kernel[i, j]) for i, j, part in shifted) + bias


def oracle(a, b, params, pooling):
    """The distance as the paper has it (Zhang et al., 2018, Eq. 1), one pair of images."""
    features, total = [], 0
    for x in (a, b):
        x = (np.float64(x)[None] + [0.03, 0.088, 0.188]) / [0.458, 0.448, 0.45]
        names, found = iter(convolution_names()), []
        for resolution, (count, _) in enumerate(NARROW):
            if resolution:
                x = x[:, : len(x[0]) // 2 * 2, : len(x[0]) // 2 * 2]
                quarters = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
                x = {"max": np.max, "average": np.mean}[pooling](quarters, axis=0)
            for name in [next(names) for _ in range(count)]:
                x = np.maximum(convolved(x, **params["vgg16"][name]), 0)
            found.append(x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10))
        features.append(found)
    for i, (y, z) in enumerate(zip(*features, strict=True), 1):
        total += ((y - z) ** 2 * params[f"linear{i}"]).sum(-1).mean()
    return total


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_formula(pooling):
    a, b = images(2), images(2)
    found = distance(a, b, pooling=pooling)
    expected = [oracle(x, y, PARAMS, pooling) for x, y in zip(a, b, strict=True)]
    assert found.shape == (2,) and min(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_smaller_images_are_enlarged_and_larger_ones_are_not():
    a, b = images(1), images(1)
    enlarged = [jax.image.resize(x, (1, 2 * SIZE, 2 * SIZE, 3), "bilinear") for x in (a, b)]
    found = distance(a, b, size=2 * SIZE)
    np.testing.assert_allclose(found, distance(*enlarged), rtol=1e-5)
    assert abs(found - distance(a, b)) > 0.01 * found


def test_equal_images_have_distance_and_gradient_zero():
    a, b = images(1), images(1)
    assert distance(a, a) < 1e-10 * distance(a, b)  # squares of rounding errors
    assert np.abs(gradient(a, a)).max() < 1e-3 * np.abs(gradient(a, b)).max()


def test_where_all_features_are_zero_the_gradient_is_a_number():
    dead = jax.tree.map(np.copy, PARAMS)
    dead["vgg16"]["conv5_3"]["bias"][:] = -1e6
    found = gradient(images(1), images(1), dead)
    assert np.isfinite(found).all() and np.abs(found).max() > 0
    zeros = np.zeros((1, 1, 1, 4), np.float32)  # without the ReLU before it, which hides NaN
    assert np.isfinite(jax.grad(lambda x: module._normalize(x).sum())(zeros)).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"size": 8}, "at least 16"), ({"pooling": "min"}, "'max' or 'average'")],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LPIPS(**fields)
