"""Scalings against the paper's numbers, the boundary, and the network's input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax


def test_scalings_at_three_levels():
    scalings = ict_jax.boundary_scalings(jnp.array([0.002, 0.5, 80.0]))
    expected = {
        "c_skip": [1.0, 0.502004, 3.90629e-5],
        "c_out": [0.0, 0.352139, 0.4999777],
        "c_in": [1.999984, 1.414214, 0.01249976],
        "c_noise": [-1.553652, -0.173287, 1.095507],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(scalings, name), values, rtol=5e-6, err_msg=name)


@pytest.mark.parametrize("sigma_data", [0.5, 0.8463219])
@pytest.mark.parametrize("jit", [False, True])
def test_the_boundary_is_exact(jit, sigma_data):
    f = ict_jax.as_consistency_fn(lambda x, c: 1e3 * jnp.sin(7 * x), sigma_data=sigma_data)
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
    f = jax.jit(f) if jit else f
    np.testing.assert_array_equal(f(x, jnp.full(8, 0.002)), x)
    assert not np.array_equal(f(x, jnp.full(8, 0.00201)), x)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 2.0, 80.0])
def test_network_input_has_unit_mean_square(sigma):
    seen = []
    f = ict_jax.as_consistency_fn(lambda x, c: seen.append(x) or x, sigma_data=0.7)
    key_x, key_noise = jax.random.split(jax.random.key(1))
    x = 0.7 * jax.random.normal(key_x, (200_000, 1))
    f(x + sigma * jax.random.normal(key_noise, x.shape), jnp.full(len(x), sigma))
    np.testing.assert_allclose(jnp.mean(seen[0] ** 2), 1, atol=0.02)


def test_network_may_compute_in_bfloat16():
    f = ict_jax.as_consistency_fn(lambda x, c: x.astype(jnp.bfloat16))
    assert f(jnp.ones((2, 3)), jnp.ones(2)).dtype == jnp.float32
