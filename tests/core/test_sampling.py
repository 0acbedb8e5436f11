"""One-step and multistep sampling: CM Algorithm 1, noise per seed, clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax

SHAPE = (4, 4, 1)


def squash(x, sigma):
    return x / (3 * sigma[:, None, None, None])


def draw(seeds, sigmas=(80.0,), f=squash, **options):
    return np.asarray(ict_jax.sample(f, ict_jax.seed_keys(seeds), SHAPE, sigmas, **options))


@pytest.mark.parametrize("sigmas", [(80.0,), (80.0, 0.8), (80.0, 5.0, 0.3)])
def test_image_of_a_seed_depends_on_the_seed_alone(sigmas):
    whole = draw(range(10), sigmas)
    np.testing.assert_array_equal(draw([7], sigmas)[0], whole[7])
    np.testing.assert_array_equal(draw([9, 2, 7, 7], sigmas), whole[[9, 2, 7, 7]])
    assert len({image.tobytes() for image in whole}) == 10


def test_one_step_starts_from_noise_of_sigma_max():
    x = draw(range(20_000), f=lambda x, sigma: x, clip=False)
    assert abs(x.std() / 80 - 1) < 0.01 and abs(x.mean() / 80) < 0.01


def test_multistep_is_algorithm_one():
    """Each further step sees the last output plus noise of sqrt(sigma^2 - sigma_min^2)."""
    seen = []

    def f(x, sigma):
        seen.append((np.asarray(x), np.asarray(sigma)))
        return jnp.zeros_like(x)

    x = draw(range(20_000), (80.0, 0.05), f)
    np.testing.assert_array_equal(x, 0)
    (first, sigma_first), (second, sigma_second) = seen
    assert set(sigma_first) == {80.0} and set(sigma_second) == {np.float32(0.05)}
    np.testing.assert_allclose(second.std(), np.sqrt(0.05**2 - 0.002**2), rtol=5e-3)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01


def test_a_second_level_at_sigma_min_changes_nothing():
    f = ict_jax.as_consistency_fn(lambda x, c: jnp.sin(3 * x))
    np.testing.assert_array_equal(draw(range(5), (80.0, 0.002), f), draw(range(5), f=f))


def test_outputs_are_clipped_before_noise_is_added_again():
    def f(x, sigma):
        return jnp.full_like(x, 5.0) if sigma[0] == 80 else x

    assert draw(range(50), (80.0, 0.1), f).max() == 1
    unclipped = draw(range(50), (80.0, 0.1), f, clip=False)
    assert unclipped.min() > 4
    centre = draw(range(2000), (80.0, 0.01), lambda x, s: f(x, s), clip=True).mean()
    assert 0.99 < centre < 1


def test_levels_may_be_traced():
    keys = ict_jax.seed_keys(range(3))
    traces = []

    @jax.jit
    def jitted(sigmas):
        traces.append(1)
        return ict_jax.sample(squash, keys, SHAPE, sigmas)

    for second in (0.5, 0.8):
        np.testing.assert_allclose(
            jitted(jnp.array([80.0, second])), draw(range(3), (80.0, second)), rtol=1e-5
        )
    assert len(traces) == 1


def test_large_seeds_are_distinct():
    images = draw([0, 2**31, 2**32 - 1])
    assert len({image.tobytes() for image in images}) == 3


def gaussian_denoiser(spread):
    """The optimal denoiser of data distributed as N(0, spread^2)."""

    def denoise(x, sigma):
        variance = spread**2 + sigma[:, None, None, None] ** 2
        return x * spread**2 / variance

    return denoise


def test_heun_solves_the_ode_to_second_order():
    """The ODE of Gaussian data keeps x / sqrt(spread^2 + sigma^2)."""
    keys, spread = ict_jax.seed_keys(range(8)), 0.3
    start = draw(range(8), f=lambda x, sigma: x, clip=False)
    exact = start * spread / np.sqrt(spread**2 + 80.0**2)
    errors = []
    for steps in (20, 40, 80):
        sigmas = ict_jax.karras_sigmas(steps, sigma_min=0.002)[::-1].copy()
        x = ict_jax.heun_sample(gaussian_denoiser(spread), keys, SHAPE, sigmas, clip=False)
        errors.append(np.abs(np.asarray(x) - exact).max() / np.abs(exact).max())
    assert errors[-1] < 3e-3
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.25)


def test_heun_calls_the_denoiser_at_the_levels_given():
    seen = []

    def denoise(x, sigma):
        jax.debug.callback(lambda level: seen.append(float(level)), sigma[0], ordered=True)
        return jnp.zeros_like(x)

    x = ict_jax.heun_sample(denoise, ict_jax.seed_keys([3, 4]), SHAPE, (80.0, 2.0, 0.5))
    jax.effects_barrier()
    assert seen == [80.0, 2.0, 2.0, 0.5, 0.5]
    np.testing.assert_allclose(x, 0, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_clipped_to_an_image(value):
    def f(x, sigma):
        return jnp.full_like(x, value)

    assert np.isnan(draw([1, 2], f=f)).all()
    assert np.isnan(ict_jax.heun_sample(f, ict_jax.seed_keys([1]), SHAPE, (80.0, 2.0))).all()


@pytest.mark.parametrize("sigmas", [(), (1.0, 2.0), (1.0, 0.0), (np.inf, 1.0)])
def test_heun_refuses_levels_that_do_not_descend_to_above_zero(sigmas, user_errors):
    with pytest.raises(ict_jax.ArgumentError, match="sigmas"):
        ict_jax.heun_sample(gaussian_denoiser(1.0), ict_jax.seed_keys([0]), SHAPE, sigmas)
