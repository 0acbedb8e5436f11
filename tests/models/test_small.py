"""The dense network and the noise embedding."""

import jax
import jax.numpy as jnp
import numpy as np

from ict_jax.models import DenseNet
from ict_jax.models.layers import FourierEmbedding


def test_shapes_and_start_at_zero():
    model = DenseNet(width=32, hidden=16, num_blocks=2)
    x, c_noise = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)), jnp.ones(3)
    params = model.init(jax.random.key(1), x, c_noise)
    np.testing.assert_array_equal(model.apply(params, x, c_noise), jnp.zeros_like(x))
    assert len([name for name in params["params"] if name.startswith("Dense_")]) == 2 + 1 + 6 + 1


def test_noise_level_and_dropout_matter():
    model = DenseNet(width=32, hidden=32, num_blocks=1, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    params = model.init(jax.random.key(1), x, jnp.ones(3))
    params = jax.tree.map(lambda p: p + 0.05, params)

    def apply(c, seed=None):
        rngs = {} if seed is None else {"dropout": jax.random.key(seed)}
        return model.apply(params, x, jnp.full(3, c), train=seed is not None, rngs=rngs)

    assert not np.allclose(apply(1.0), apply(-1.0), atol=1e-5)
    np.testing.assert_array_equal(apply(1.0, 0), apply(1.0, 0))
    assert not np.array_equal(apply(1.0, 0), apply(1.0, 1))


def test_classes_matter_in_a_conditional_network_only():
    x, c_noise = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)), jnp.ones(3)
    for classes, differs in [(10, True), (0, False)]:
        model = DenseNet(width=32, hidden=32, num_blocks=1, num_classes=classes)
        a, b = jnp.array([0, 1, 2]), jnp.array([0, 5, 2])
        params = jax.tree.map(lambda p: p + 0.05, model.init(jax.random.key(1), x, c_noise, a))
        outputs = [np.asarray(model.apply(params, x, c_noise, labels)) for labels in (a, b)]
        np.testing.assert_array_equal(outputs[0][[0, 2]], outputs[1][[0, 2]])
        assert np.allclose(outputs[0][1], outputs[1][1], atol=1e-6) != differs


def test_fourier_embedding_against_numpy_and_not_trained():
    layer = FourierEmbedding(8, scale=0.02)
    c = jnp.array([-1.5, 0.3])
    params = layer.init(jax.random.key(0), c)
    w = np.asarray(params["params"]["W"], np.float64)
    angles = 2 * np.pi * np.outer(c, w)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    np.testing.assert_allclose(layer.apply(params, c), expected, atol=1e-6)
    gradient = jax.grad(lambda p: layer.apply(p, c).sum())(params)
    assert not np.any(gradient["params"]["W"])
    wide = FourierEmbedding(100_000, scale=0.02).init(jax.random.key(0), c)["params"]["W"]
    np.testing.assert_allclose(wide.std(), 0.02, rtol=0.02)


def test_neighbouring_levels_are_as_close_as_the_paper_says():
    """Mean L1 step of the embedding over the N = 1281 grid: 0.114 at scale 16, 1e-4 at 0.02."""
    import ict_jax

    c = jnp.float32(0.25 * np.log(ict_jax.karras_sigmas(1281)))
    for scale, expected in [(16, 0.114), (0.02, 0.000105)]:
        layer = FourierEmbedding(2**14, scale)
        features = np.asarray(layer.apply(layer.init(jax.random.key(0), c), c), np.float64)
        step = np.abs(np.diff(features, axis=0)).mean()
        np.testing.assert_allclose(step, expected, rtol=0.1)
