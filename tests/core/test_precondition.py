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


def test_scalings_of_a_diffusion_model():
    """EDM, Table 1, in float64."""
    sigma, data = np.array([0.002, 0.5, 80.0]), 0.7
    root = np.sqrt(sigma**2 + data**2)
    expected = (data**2 / root**2, sigma * data / root, 1 / root, np.log(sigma) / 4)
    got = ict_jax.edm_scalings(jnp.asarray(sigma, jnp.float32), sigma_data=data)
    for values, name in zip(expected, got._fields, strict=True):
        np.testing.assert_allclose(getattr(got, name), values, rtol=1e-5, err_msg=name)
    denoiser = ict_jax.as_denoiser(lambda x, c: x + c[:, None], sigma_data=data)
    x = np.array([[1.0], [2.0], [-3.0]])
    c_skip, c_out, c_in, c_noise = (value[:, None] for value in expected)
    np.testing.assert_allclose(
        denoiser(jnp.asarray(x, jnp.float32), jnp.asarray(sigma, jnp.float32)),
        c_skip * x + c_out * (c_in * x + c_noise),
        rtol=1e-5,
    )
