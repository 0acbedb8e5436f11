"""What consistency training converges to, level by level, against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm

from experiments.evidence import oracle, order
from experiments.evidence.order import Mixture

DATA = Mixture(0.2)


def test_the_truth_keeps_ranks_and_is_what_the_ode_gives():
    x = np.linspace(-3, 3, 7)
    true = DATA.truth(x, 1.5)
    np.testing.assert_allclose(DATA.rank(x, 1.5), DATA.rank(true, order.SIGMA_MIN), atol=1e-12)
    # The ODE of so many points at the modes' quantiles that they are nearly the modes.
    quantiles = norm.ppf((np.arange(400) + 0.5) / 400)
    parts = [
        np.repeat(centre + DATA.spread * quantiles, round(10 * weight))
        for centre, weight in zip(order.CENTRES, order.WEIGHTS, strict=True)
    ]
    points = np.concatenate(parts)[:, None]
    np.testing.assert_allclose(oracle.solve(x[:, None], 1.5, points)[:, 0], true, atol=5e-3)


def test_what_is_drawn_below_has_the_moments_of_a_simulation():
    rng = np.random.default_rng(0)
    mode = rng.choice(3, size=2_000_000, p=order.WEIGHTS)
    data = order.CENTRES[mode] + DATA.spread * rng.standard_normal(len(mode))
    noise = rng.standard_normal(len(mode))
    near = np.abs(data + 0.5 * noise - 0.3) < 0.01
    simulated = (data + 0.4 * noise)[near]
    nodes, weights = DATA.below(np.array([0.3]), 0.4, 0.5)
    mean = (weights * nodes).sum()
    np.testing.assert_allclose(mean, simulated.mean(), atol=2e-3)
    np.testing.assert_allclose(
        np.sqrt((weights * (nodes - mean) ** 2).sum()), simulated.std(), rtol=0.02
    )


def test_of_one_normal_law_the_orders_are_known(monkeypatch):
    """f is linear there: the mean and Euler agree, and the error is of first order, Heun's less."""
    monkeypatch.setattr(order, "CENTRES", np.zeros(3))
    data = Mixture(0.5)
    x = np.array([20.0, 60.0])
    true = 0.5 * x / data.spread_at(order.SIGMA_MAX) * np.sqrt(1 + (0.002 / 0.5) ** 2)
    np.testing.assert_allclose(data.truth(x, order.SIGMA_MAX), true, rtol=1e-6)

    def errors(method):
        return [
            float(np.abs(order.trained(method, data, n)(x) / true - 1).max()) for n in (21, 41, 81)
        ]

    mean, euler, heun = (
        errors(method) for method in (order.by_mean, order.by_euler, order.by_heun)
    )
    np.testing.assert_allclose(mean, euler, rtol=1e-6)
    np.testing.assert_allclose(np.divide(euler[:-1], euler[1:]), 2, rtol=0.25)
    assert np.divide(heun[:-1], heun[1:]).min() > 3


def test_the_least_mean_distance_lies_between_median_and_mean():
    values = np.array([[0.0, 0.1, 1.0]])
    weights = np.array([[0.3, 0.3, 0.4]])
    found = [float(order.least_mean_distance(values, weights, c)[0]) for c in (1e-6, 100.0)]
    np.testing.assert_allclose(found, [0.1, 0.43], atol=1e-4)


@pytest.mark.parametrize("method", [order.by_mean, order.by_heun])
def test_finer_quadrature_changes_nothing(method, monkeypatch):
    data, x = Mixture(0.12), np.linspace(-150, 150, 100)
    coarse = order.trained(method, data, 41)(x)
    monkeypatch.setattr(order, "POINTS", 2 * order.POINTS)
    monkeypatch.setattr(order, "NODES", 2 * order.NODES)
    assert np.sqrt(np.mean((order.trained(method, data, 41)(x) - coarse) ** 2)) < 2e-4
