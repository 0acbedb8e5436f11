"""Metric, weight and loss: closed forms, gradients, invariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax

KEY = jax.random.key(0)


def network(scale, x, c):
    return scale * jnp.tanh(x) + c.reshape(-1, *(1,) * (x.ndim - 1))


def bound(scale):
    return ict_jax.as_consistency_fn(functools.partial(network, scale))


def pair(shape=(6, 4, 4, 3)):
    keys = jax.random.split(KEY, 3)
    x = jax.random.uniform(keys[0], shape, minval=-1)
    disc = ict_jax.make_discretization(8)
    lo, hi = ict_jax.draw_sigma_pair(keys[2], shape[:1], 3, disc)
    return x, jax.random.normal(keys[1], shape), lo, hi


def test_huber_c_of_the_paper():
    np.testing.assert_allclose(ict_jax.default_huber_c(3 * 32 * 32), 0.02993, atol=5e-6)
    np.testing.assert_allclose(ict_jax.default_huber_c(3 * 64 * 64), 0.05986, atol=5e-6)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e3])
def test_pseudo_huber_against_float64(size):
    difference = size * np.random.default_rng(0).standard_normal((5, 8, 8, 3))
    c = 0.03
    squared = (difference**2).sum((1, 2, 3))
    expected = squared / (np.sqrt(squared + c**2) + c)
    naive = np.sqrt(squared + c**2) - c
    np.testing.assert_allclose(expected, naive, rtol=1e-3)  # the two forms are one formula
    got = ict_jax.pseudo_huber(jnp.float32(difference), jnp.zeros((5, 8, 8, 3)), c=c)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_pseudo_huber_is_per_sample_not_per_number():
    x = jnp.full((1, 100), 0.01)
    per_number = jnp.sum(jnp.sqrt(x**2 + 0.03**2) - 0.03)
    got = ict_jax.pseudo_huber(x, jnp.zeros_like(x), c=0.03)[0]
    np.testing.assert_allclose(got, np.sqrt(0.1**2 + 0.03**2) - 0.03, rtol=1e-5)
    assert abs(got / per_number - 1) > 0.5


def test_pseudo_huber_gradient():
    """d/du (sqrt(|u|^2 + c^2) - c) = u / sqrt(|u|^2 + c^2), and 0 at 0."""
    u, c = jax.random.normal(KEY, (1, 7)), 0.5
    gradient = jax.grad(lambda u: ict_jax.pseudo_huber(u, jnp.zeros((1, 7)), c=c)[0])
    expected = np.asarray(u, np.float64)
    expected = expected / np.sqrt((expected**2).sum() + c**2)
    np.testing.assert_allclose(gradient(u), expected, rtol=1e-5)
    np.testing.assert_array_equal(gradient(jnp.zeros((1, 7))), np.zeros((1, 7)))


def test_loss_is_the_formula_of_the_paper():
    """lambda d(f(x + sigma_hi z, sigma_hi), f(x + sigma_lo z, sigma_lo)) in NumPy float64."""
    x, noise, lo, hi = (np.asarray(a, np.float64) for a in pair())

    def f(x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        sd, smin = 0.5, 0.002
        c_skip = sd**2 / ((sigma - smin) ** 2 + sd**2)
        c_out = sd * (sigma - smin) / np.sqrt(sigma**2 + sd**2)
        c_in = 1 / np.sqrt(sigma**2 + sd**2)
        return c_skip * x + c_out * (0.7 * np.tanh(c_in * x) + 0.25 * np.log(sigma))

    wide = (slice(None), None, None, None)
    difference = f(x + hi[wide] * noise, hi) - f(x + lo[wide] * noise, lo)
    c = 0.00054 * np.sqrt(48)
    expected = (np.sqrt((difference**2).sum((1, 2, 3)) + c**2) - c) / (hi - lo)
    got = ict_jax.consistency_loss(bound(0.7), *pair())
    np.testing.assert_allclose(got, expected, rtol=2e-3)


def test_no_gradient_reaches_the_teacher():
    def loss(student, teacher, detach):
        frozen = jax.lax.stop_gradient(teacher) if detach else teacher
        return ict_jax.consistency_loss(bound(student), *pair(), teacher=bound(frozen)).sum()

    student, teacher = jax.grad(loss, (0, 1))(0.7, 0.6, False)
    assert teacher == 0 and student != 0

    def self_taught(scale):
        return ict_jax.consistency_loss(bound(scale), *pair()).sum()

    np.testing.assert_allclose(jax.grad(self_taught)(0.7), jax.grad(loss)(0.7, 0.7, True))


def test_student_sees_the_higher_level_and_the_same_noise():
    seen = []
    x, noise, lo, hi = pair()

    def f(x, sigma):
        seen.append((x, sigma))
        return 0 * x

    ict_jax.consistency_loss(f, x, noise, lo, hi)
    (x_hi, sigma_hi), (x_lo, sigma_lo) = seen
    np.testing.assert_array_equal(sigma_hi, hi)
    np.testing.assert_array_equal(sigma_lo, lo)
    wide = (slice(None), None, None, None)
    np.testing.assert_allclose(x_hi, x + hi[wide] * noise, rtol=1e-6)
    np.testing.assert_allclose(x_lo, x + lo[wide] * noise, rtol=1e-6)


def test_batch_permutation_permutes_the_losses():
    order = np.array([3, 1, 5, 0, 2, 4])
    losses = ict_jax.consistency_loss(bound(0.7), *pair())
    permuted = ict_jax.consistency_loss(bound(0.7), *(a[order] for a in pair()))
    np.testing.assert_allclose(permuted, losses[order], rtol=1e-5)
    assert len(set(np.asarray(losses).round(4))) == 6


def test_ict_loss_per_example_with_diagnostics_and_jit():
    x = pair()[0]
    disc = ict_jax.make_discretization(8)

    def loss(step):
        return ict_jax.ict_loss(bound(0.7), x, KEY, step, disc)

    losses, aux = loss(3)
    assert losses.shape == (6,)
    assert set(aux) == {"sigma_lo", "sigma_hi", "weight", "squared_distance"}
    assert all(a.shape == (6,) for a in aux.values())
    np.testing.assert_allclose(aux["weight"], 1 / (aux["sigma_hi"] - aux["sigma_lo"]), rtol=1e-6)
    c = 0.00054 * np.sqrt(48)
    squared = np.asarray(aux["squared_distance"], np.float64)
    huber = np.sqrt(squared + c**2) - c
    np.testing.assert_allclose(losses, aux["weight"] * huber, rtol=1e-3)
    jitted, _ = jax.jit(loss)(jnp.int32(3))
    np.testing.assert_allclose(jitted, losses, rtol=2e-3)


def test_every_ingredient_can_be_replaced():
    x = pair()[0]
    disc = ict_jax.make_discretization(8)
    losses, aux = ict_jax.ict_loss(
        bound(0.7),
        x,
        KEY,
        0,
        disc,
        metric=ict_jax.squared_distance,
        weight=lambda lo, hi: jnp.full_like(lo, 3.0),
    )
    np.testing.assert_allclose(losses, 3 * aux["squared_distance"], rtol=1e-6)
    wide, _ = ict_jax.ict_loss(bound(0.7), x, KEY, 0, disc, huber_c=10.0)
    default, _ = ict_jax.ict_loss(bound(0.7), x, KEY, 0, disc)
    assert (wide < 0.9 * default).all()
