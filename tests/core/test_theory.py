"""The loss on data distributions whose true consistency function is known in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax

SD, SIGMA_MIN = 0.5, 0.002


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def unit_weight(lo, hi):
    return jnp.ones_like(lo)


def gaussian_pairs(lo, hi):
    """Exact expectation over x ~ N(0, SD^2) and z ~ N(0, 1): 3 x 3 Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    x, z = (a.reshape(-1, 1) for a in np.meshgrid(SD * nodes, nodes))
    probability = np.outer(weights, weights).ravel()
    full = [jnp.full(9, sigma) for sigma in (lo, hi)]
    return (jnp.asarray(x), jnp.asarray(z), *full), probability


def true_f(x, sigma):
    return x * jnp.sqrt((SD**2 + SIGMA_MIN**2) / (SD**2 + sigma[:, None] ** 2))


def expected_loss(lo, hi, f, **options):
    arguments, probability = gaussian_pairs(lo, hi)
    return probability @ ict_jax.consistency_loss(f, *arguments, **options)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_order_in_the_gap_at_the_true_function(sigma):
    """Squared distance: second order in the gap. Weighted by 1 / gap: first order."""
    gaps = np.array([1e-3, 5e-4, 2.5e-4]) * sigma
    squared = [
        expected_loss(sigma, sigma + g, true_f, metric=ict_jax.squared_distance, weight=unit_weight)
        for g in gaps
    ]
    weighted = [
        expected_loss(sigma, sigma + g, true_f, metric=ict_jax.squared_distance) for g in gaps
    ]
    np.testing.assert_allclose(np.divide(squared[:-1], squared[1:]), 4, rtol=2e-3)
    np.testing.assert_allclose(np.divide(weighted[:-1], weighted[1:]), 2, rtol=2e-3)


def test_value_at_the_true_function_is_the_closed_form():
    lo, hi = 0.4, 0.5
    a_lo, a_hi = (float(true_f(jnp.ones((1, 1)), jnp.array([s]))[0, 0]) for s in (lo, hi))
    expected = SD**2 * (a_hi - a_lo) ** 2 + (a_hi * hi - a_lo * lo) ** 2
    got = expected_loss(lo, hi, true_f, metric=ict_jax.squared_distance, weight=unit_weight)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def minimiser_error(n):
    """Walks up the grid: each slope minimises the loss against the one below it."""
    sigmas = ict_jax.karras_sigmas(n)
    slope = 1.0
    for lo, hi in itertools.pairwise(sigmas):
        below = slope
        slope = below * (SD**2 + lo * hi) / (SD**2 + hi**2)
        if hi in sigmas[[1, n // 2, n - 1]]:  # it is the minimiser of this code's loss

            def loss(a, lo=lo, hi=hi, below=below):
                return expected_loss(
                    lo,
                    hi,
                    lambda x, sigma: a * x,
                    teacher=lambda x, sigma: below * x,
                    metric=ict_jax.squared_distance,
                    weight=unit_weight,
                )

            scale = SD**2 + hi**2
            assert abs(jax.grad(loss)(slope)) < 1e-12 * scale
            assert abs(jax.grad(loss)(1.01 * slope)) > 1e-6 * slope * scale
    true = np.sqrt((SD**2 + SIGMA_MIN**2) / (SD**2 + sigmas[-1] ** 2))
    return abs(slope - true) / true


def test_error_of_the_minimiser_is_first_order_in_n():
    errors = np.array([minimiser_error(n) for n in (161, 321, 641, 1281)])
    np.testing.assert_allclose(errors[:-1] / errors[1:], 2, rtol=0.05)


# iCT, Section 3.2: data at the point XI, model (a/s) x + (1 - a/s) theta, linear grid.
XI = 0.7


def point_loss(theta, theta_minus, n, a, b):
    sigmas = jnp.linspace(a, b, n)

    def model(theta):
        return lambda x, s: (a / s[:, None]) * x + (1 - a / s[:, None]) * theta

    x = jnp.full((n - 1, 1), XI)
    noise = jax.random.normal(jax.random.key(0), x.shape, jnp.float64)
    return ict_jax.consistency_loss(
        model(theta),
        x,
        noise,
        sigmas[:-1],
        sigmas[1:],
        teacher=model(theta_minus),
        metric=ict_jax.squared_distance,
        weight=unit_weight,
    ).mean()


def scaled_gradient(theta, theta_minus, n, a, b):
    """dL/dtheta at fixed theta^-, divided by the gap."""
    return float(jax.grad(point_loss)(theta, theta_minus, n, a, b) * (n - 1) / (b - a))


@pytest.mark.parametrize(("n", "expected"), [(11, 0.012497), (1281, 0.012120)])
def test_gradient_at_the_papers_range_without_teacher_average(n, expected):
    np.testing.assert_allclose(scaled_gradient(1.2, 1.2, n, 0.002, 80.0), expected, rtol=1e-4)


def test_gradient_limit_without_teacher_average():
    """Proposition 1.2: d/dtheta E[(a/s^2)(1 - a/s)(theta - xi)^2], s uniform on [a, b]."""
    a, b = 0.1, 1.0
    mean = (a * (1 / a - 1 / b) - a**2 / 2 * (1 / a**2 - 1 / b**2)) / (b - a)
    limit = 2 * mean * (1.2 - XI)
    errors = [abs(scaled_gradient(1.2, 1.2, n, a, b) - limit) for n in (1001, 2001, 4001)]
    assert errors[-1] < 1e-3 * limit
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.05)
    assert scaled_gradient(XI, XI, 1001, a, b) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("theta_minus", "sign"), [(1.0, 1), (1.4, -1)])
def test_gradient_explodes_with_a_teacher_average(theta_minus, sign):
    """Proposition 1.2: to +inf if theta > theta^-, to -inf if theta < theta^-, like N."""
    values = [sign * scaled_gradient(1.2, theta_minus, n, 0.1, 1.0) for n in (1001, 2001, 4001)]
    assert values[0] > 10
    np.testing.assert_allclose(np.divide(values[1:], values[:-1]), 2, rtol=0.02)
    if sign > 0:
        np.testing.assert_allclose(scaled_gradient(1.2, 1.0, 1281, 0.002, 80.0), 6.405, rtol=1e-3)


def test_loss_limit_with_a_teacher_average_forgets_the_data(monkeypatch):
    """Proposition 1.1: the loss tends to E[(1 - a/s)^2] (theta - theta^-)^2, free of xi."""
    a, b = 0.1, 1.0
    mean = 1 - 2 * a * np.log(b / a) / (b - a) + a**2 * (1 / a - 1 / b) / (b - a)
    for xi in (0.7, -3.0):
        monkeypatch.setattr(f"{__name__}.XI", xi)
        np.testing.assert_allclose(
            point_loss(1.2, 1.0, 20_001, a, b), mean * 0.2**2, rtol=3e-3, err_msg=str(xi)
        )
    assert float(point_loss(1.2, 1.2, 20_001, a, b)) < 1e-5
