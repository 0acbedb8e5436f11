"""The objectives beside iCT: closed forms, and functions whose loss is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax
from ict_jax.core import schedules
from ict_jax.core.losses import mean_absolute_distance, unit_weight
from ict_jax.core.objectives import (
    Draws,
    cd_objective,
    ct_objective,
    ect_objective,
    edm_objective,
    scd_objective,
    sct_objective,
)
from ict_jax.core.objectives.ect import lower_level
from ict_jax.core.objectives.sct import TrigDraws, init_weight, learned_weight, trig_tangent
from ict_jax.core.sampling import heun_step

KEY = jax.random.key(0)
SD = 0.6


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def levels(**options):
    laws = {"curriculum": schedules.sqrt_curriculum, "noise_law": schedules.uniform_law}
    return ict_jax.make_discretization(800_000, s0=2, s1=150, **laws, **options)


# CT


def test_curriculum_and_target_decay_of_ct():
    """Steps, N and mu of the authors' formulas, evaluated in float64."""
    objective = ct_objective(levels())
    for step, n, mu in (
        (0, 2, 0.81),
        (1, 3, 0.9),
        (1000, 6, 0.95873),
        (100_000, 54, 0.996032),
        (400_000, 107, 0.998014),
        (800_000, 151, 0.998596),
    ):
        assert int(ict_jax.num_scales_at(step, levels())) == n
        np.testing.assert_allclose(objective.target_decay(step), mu, atol=5e-6)


@pytest.mark.parametrize(("total", "s0", "s1"), [(800, 2, 20), (100, 5, 5), (37, 2, 9)])
def test_sqrt_curriculum_is_the_formula(total, s0, s1):
    stages = schedules.sqrt_curriculum(total, s0=s0, s1=s1)
    for k in range(total + 1):
        exact = np.sqrt(k / total * ((s1 + 1) ** 2 - s0**2) + s0**2)
        expected = int(np.ceil(np.round(exact - 1, 9))) + 1
        assert [n for first, n in stages if first <= k][-1] == expected, k


def test_linear_and_constant_curricula():
    linear = schedules.linear_curriculum(110, s0=10, s1=20)
    assert linear == [(10 * j, 11 + j) for j in range(11)]
    assert schedules.linear_curriculum(3, s0=10, s1=20)[-1] == (3, 21)
    assert schedules.constant_curriculum(110, s0=10, s1=20) == [(0, 21)]
    for curriculum in (schedules.linear_curriculum, schedules.constant_curriculum):
        with pytest.raises(ict_jax.ArgumentError, match="s0=30 and s1=20 must be whole and"):
            curriculum(110, s0=30, s1=20)


def test_ct_compares_with_the_target():
    """weight 1, the mean of squares, the student at the higher level; NumPy in float64."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 5, 3))
    lo, hi = np.linspace(0.1, 0.5, 5), np.linspace(0.2, 0.9, 5)
    f, target = (lambda x, sigma, a=a: jnp.tanh(a * x) + sigma[:, None] for a in (0.7, 0.3))
    given = jnp.float32(x), Draws(*map(jnp.float32, (noise, lo, hi)))
    losses, _ = ct_objective(levels()).loss(f, *given, target=target)
    difference = np.tanh(0.7 * (x + hi[:, None] * noise)) + hi[:, None]
    difference -= np.tanh(0.3 * (x + lo[:, None] * noise)) + lo[:, None]
    np.testing.assert_allclose(losses, (difference**2).mean(1), rtol=1e-5)
    absolute = ct_objective(levels(), metric=mean_absolute_distance)
    losses, _ = absolute.loss(f, *given, target=target)
    np.testing.assert_allclose(losses, abs(difference).mean(1), rtol=1e-5)


# EDM


def test_weighted_loss_of_the_best_denoiser_is_one_at_every_level():
    """x ~ N(0, sd^2): D = x sd^2 / (sd^2 + sigma^2) leaves lambda E|D - x|^2 = 1 per number."""
    objective = edm_objective(sigma_data=SD)
    keys = jax.random.split(KEY)
    x, noise = SD * jax.random.normal(keys[0], (9, 100_000)), jax.random.normal(keys[1], (9, 10**5))
    sigma = jnp.geomspace(0.01, 50, 9)

    def best(x, sigma):
        return x * (SD**2 / (SD**2 + sigma**2))[:, None]

    losses, aux = objective.loss(best, x, Draws(noise, sigma, sigma))
    np.testing.assert_allclose(losses / 100_000, 1, rtol=0.02)
    np.testing.assert_allclose(aux["weight"], 1 / sigma**2 + 1 / SD**2, rtol=1e-5)
    worse, _ = objective.loss(lambda x, s: 0.9 * best(x, s), x, Draws(noise, sigma, sigma))
    assert (worse > losses).all()


def test_levels_are_lognormal():
    sigma = edm_objective().draw(KEY, (100_000, 1), 0).sigma_hi
    np.testing.assert_allclose(
        [jnp.log(sigma).mean(), jnp.log(sigma).std()], [-1.2, 1.2], rtol=0.02
    )


# CD


def gaussian_denoiser(x, sigma):
    return x * (SD**2 / (SD**2 + sigma**2))[:, None]


def test_heun_step_is_of_second_order(float64):
    """x_sigma = x_0 sqrt(sd^2 + sigma^2) solves the ODE of a Gaussian; the error is as gap^3."""
    x = jnp.ones((1, 2))
    errors = []
    for gap in (0.1, 0.05, 0.025):
        hi, lo = jnp.array([1.0]), jnp.array([1.0 - gap])
        exact = x * jnp.sqrt((SD**2 + lo**2) / (SD**2 + hi**2))[:, None]
        errors.append(float(abs(heun_step(gaussian_denoiser, x, hi, lo) - exact).max()))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 8, rtol=0.15)


def test_cd_is_nothing_at_the_true_function_and_ct_of_a_single_point():
    disc = levels()
    objective = cd_objective(disc)
    assert objective.has_denoiser and objective.target_decay is None
    draws = objective.draw(KEY, (64, 2), 400_000)
    x = SD * jax.random.normal(jax.random.key(1), (64, 2))

    def true_f(x, sigma):
        return x * jnp.sqrt((SD**2 + 0.002**2) / (SD**2 + sigma**2))[:, None]

    def other(x, sigma):
        return jnp.tanh(x) + sigma[:, None]

    at_truth, _ = objective.loss(true_f, x, draws, denoiser=gaussian_denoiser)
    elsewhere, _ = objective.loss(other, x, draws, denoiser=gaussian_denoiser)
    assert at_truth.mean() < 1e-4 * elsewhere.mean()
    # The data are one point: the ODE is straight and its denoiser constant.
    point = jnp.full((64, 2), 0.3)
    by_ode, _ = objective.loss(other, point, draws, denoiser=lambda x, s: point)
    by_pair = ict_jax.consistency_loss(
        other, point, *draws, metric=ict_jax.mean_squared_distance, weight=unit_weight
    )
    np.testing.assert_allclose(by_ode, by_pair, rtol=1e-3, atol=1e-6)
    assert cd_objective(disc, target_decay=0.95).target_decay(3) == jnp.float32(0.95)


# ECT


def test_lower_level_of_ect():
    """r / t at q = 2 in stages 1 to 8, from the formula in float64."""
    for t, shares in (
        (0.821, [0, 0.1389, 0.5694, 0.7847, 0.8924, 0.9462, 0.9731, 0.9865]),
        (5.0, [0.4732, 0.7366, 0.8683, 0.9342, 0.9671, 0.9835, 0.9918, 0.9959]),
    ):
        found = [float(lower_level(jnp.array([t]), 2.0**a)[0]) / t for a in range(1, 9)]
        np.testing.assert_allclose(found, shares, atol=6e-5)


def test_stages_of_ect():
    objective = ect_objective(stage_steps=100)
    for step, exponent in ((0, 1), (99, 1), (100, 2), (750, 8)):
        draws = objective.draw(KEY, (8, 2), step)
        expected = lower_level(draws.sigma_hi, 2.0**exponent)
        np.testing.assert_allclose(draws.sigma_lo, expected, rtol=1e-6)
    text = ect_objective(stage_steps=100, first_exponent=0).draw(KEY, (8, 2), 0)
    np.testing.assert_array_equal(text.sigma_lo, 0)


def test_loss_of_ect_and_its_target_at_level_zero():
    objective = ect_objective(stage_steps=1, huber_c=0.06)
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 4, 6)).astype(np.float32)
    lo, hi = np.float32([0, 0, 0.3, 0.5]), np.float32([0.2, 1.0, 0.4, 2.0])

    def f(x, sigma):  # what a network makes of level 0 has no finite value
        return jnp.tanh(x) * jnp.log(sigma)[:, None]

    given = jnp.asarray(x), Draws(*map(jnp.asarray, (noise, lo, hi)))
    losses, _ = objective.loss(f, *given)
    wide = (slice(None), None)
    predicted = np.tanh(x + hi[wide] * noise) * np.log(hi)[wide]
    target = np.tanh(x + lo[wide] * noise) * np.log(np.maximum(lo, 1e-9))[wide]
    target[:2] = x[:2]
    squared = ((predicted - target) ** 2).sum(1)
    np.testing.assert_allclose(losses, (np.sqrt(squared + 0.06**2) - 0.06) / (hi - lo), rtol=1e-4)
    gradient = jax.grad(lambda a: objective.loss(lambda x, s: a * f(x, s), *given)[0].sum())
    assert np.isfinite(gradient(1.0))


# sCT, sCD


def trig_draws(sigma, dims=2, warm_up=1.0):
    noise = jax.random.normal(KEY, (len(sigma), dims), sigma.dtype)
    return TrigDraws(noise, sigma, jnp.full_like(sigma, warm_up))


def true_network(x, t):
    """F of the true consistency function of N(0, SD^2): f = cos(t) x_t - sin(t) SD F."""
    x_t = SD * x  # at x_t / SD; the law of x_t is N(0, SD^2) at every t
    return (jnp.cos(t)[:, None] * x_t - x_t) / (SD * jnp.sin(t)[:, None])


def test_scalings_of_trigflow_are_those_of_the_angle(float64):
    sigma = jnp.geomspace(0.002, 80, 7)
    t = jnp.arctan(sigma / SD)
    c_skip, c_out, c_in, c_noise = ict_jax.core.precondition.trigflow_scalings(sigma, sigma_data=SD)
    np.testing.assert_allclose(c_skip, jnp.cos(t) ** 2)
    np.testing.assert_allclose(c_out, -jnp.sin(t) * SD)
    np.testing.assert_allclose(c_in, jnp.cos(t) / SD)
    np.testing.assert_allclose(c_noise, t)


def test_the_tangent_vanishes_at_the_true_function(float64):
    """Along the ODE of the data's own denoiser, f does not change."""
    draws = trig_draws(jnp.geomspace(0.01, 50, 9))
    x = SD * jax.random.normal(jax.random.key(1), (9, 2), jnp.float64)
    _, tangent = trig_tangent(true_network, x, draws, gaussian_denoiser, sigma_data=SD)
    np.testing.assert_allclose(tangent, 0, atol=1e-9)
    _, other = trig_tangent(lambda x, t: jnp.tanh(x), x, draws, gaussian_denoiser, sigma_data=SD)
    assert abs(other).max() > 0.01


def test_the_tangent_is_the_derivative_of_f(float64):
    """g = cos(t) df/dt along x_t = cos(t) x + sin(t) z, by central differences."""
    sigma = jnp.geomspace(0.05, 20, 9)
    draws = trig_draws(sigma)
    x, z = jax.random.normal(jax.random.key(1), (9, 2), jnp.float64), SD * draws.noise
    t = jnp.arctan(sigma / SD)

    def network(x, t):
        return jnp.tanh(x) * jnp.cos(3 * t)[:, None] + t[:, None] ** 2

    def f(t):
        cos, sin = jnp.cos(t)[:, None], jnp.sin(t)[:, None]
        x_t = cos * x + sin * z
        return cos * x_t - sin * SD * network(x_t / SD, t)

    step = 1e-5
    expected = jnp.cos(t)[:, None] * (f(t + step) - f(t - step)) / (2 * step)
    output, tangent = trig_tangent(network, x, draws, sigma_data=SD)
    np.testing.assert_allclose(tangent, expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        output, network((jnp.cos(t)[:, None] * x + jnp.sin(t)[:, None] * z) / SD, t)
    )
    # The warm-up leaves only the part without dF/dt.
    _, start = trig_tangent(network, x, draws._replace(warm_up=jnp.zeros(9)), sigma_data=SD)
    slope = jnp.cos(t)[:, None] * z - jnp.sin(t)[:, None] * x
    np.testing.assert_allclose(start, -(jnp.cos(t)[:, None] ** 2) * (SD * output - slope))


def test_loss_of_sct_and_its_gradient(float64):
    """At F = F^-: exp(w)/d ||g||^2/(||g|| + c)^2 - w, and the gradient goes along g alone."""
    objective = sct_objective(sigma_data=SD, tangent_c=0.1)
    assert objective.of_network and not objective.has_denoiser
    draws = trig_draws(jnp.geomspace(0.05, 20, 9), dims=3)
    x = jax.random.normal(jax.random.key(1), (9, 3), jnp.float64)
    own = init_weight(jax.random.key(2))
    own["kernel"] = jax.random.normal(jax.random.key(3), own["kernel"].shape) / 10

    def loss(shift):
        return objective.loss(lambda x, t: jnp.tanh(x) + shift[None], x, draws, loss_params=own)[
            0
        ].sum()

    _, tangent = trig_tangent(lambda x, t: jnp.tanh(x), x, draws, sigma_data=SD)
    norm = jnp.linalg.norm(tangent, axis=1)
    weight = learned_weight(own, jnp.arctan(draws.sigma / SD))
    expected = jnp.exp(weight) / 3 * (norm / (norm + 0.1)) ** 2 - weight
    np.testing.assert_allclose(loss(jnp.zeros(3)), expected.sum(), rtol=1e-6)
    along = -2 * (jnp.exp(weight) / 3 / (norm + 0.1))[:, None] * tangent
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(3)), along.sum(0), rtol=1e-5)


def test_the_learned_weight_starts_at_nothing_and_only_its_kernel_is_trained():
    own = init_weight(KEY)
    t = jnp.linspace(0, 1.5, 5)
    np.testing.assert_array_equal(learned_weight(own, t), 0)
    gradient = jax.grad(lambda own: learned_weight(own, t).sum())(own)
    assert not gradient["frequencies"].any() and not gradient["phases"].any()
    assert gradient["kernel"].all()


def test_warm_up_of_the_tangent():
    objective = scd_objective(warm_up_steps=100)
    assert objective.has_denoiser
    draws = [objective.draw(KEY, (4, 2), step).warm_up for step in (0, 25, 100, 500)]
    np.testing.assert_allclose(np.stack(draws)[:, 0], [0, 0.25, 1, 1])
    at_once = sct_objective(warm_up_steps=0).draw(KEY, (4, 2), 0)
    np.testing.assert_array_equal(at_once.warm_up, 1)


BAD = [
    (functools.partial(ct_objective, levels(), mu0=1.0), "mu0=1.0 must be in"),
    (functools.partial(ct_objective, levels(), s0=0), "s0=0 must be at least 1"),
    (functools.partial(cd_objective, levels(), target_decay=1.0), "target_decay=1.0 must be in"),
    (functools.partial(edm_objective, sigma_data=0.0), "sigma_data=0.0 must be positive"),
    (functools.partial(edm_objective, p_std=0.0), "p_std=0.0 must be positive"),
    (functools.partial(ect_objective, stage_steps=0), "stage_steps=0 must be at least 1"),
    (functools.partial(ect_objective, stage_steps=1, q=1.0), "q=1.0 must be above 1"),
    (functools.partial(ect_objective, stage_steps=1, first_exponent=2), "first_exponent=2 must"),
    (functools.partial(sct_objective, tangent_c=0.0), "tangent_c=0.0 must be positive"),
    (functools.partial(sct_objective, warm_up_steps=-1), "warm_up_steps=-1 must not"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        make()
