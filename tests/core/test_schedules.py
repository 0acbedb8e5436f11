"""Grid, curriculum and noise distribution against float64 oracles and the paper's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ict_jax


@pytest.mark.parametrize("n", [2, 11, 161, 1281])
def test_karras_grid_has_exact_end_points_and_ascends(n):
    grid = ict_jax.karras_sigmas(n)
    assert grid.dtype == np.float64 and grid.shape == (n,)
    assert grid[0] == 0.002 and grid[-1] == 80.0
    assert (np.diff(grid) > 0).all()


def test_karras_grid_values():
    expected = [0.002, 0.0167208, 0.0850872, 0.318283, 0.965417, 2.51522]
    expected += [5.83895, 12.3816, 24.4083, 45.3137, 80.0]
    np.testing.assert_allclose(ict_jax.karras_sigmas(11), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("index", "sigma"), [(493, 0.821), (572, 1.526), (467, 0.661), (514, 0.973)]
)
def test_papers_second_sigmas_lie_on_the_final_grid(index, sigma):
    assert round(ict_jax.karras_sigmas(1281)[index - 1], 3) == sigma


@pytest.mark.parametrize("total_steps", [400_000, 800_000, 8, 1003, 12_345])
def test_curriculum_of_the_paper(total_steps):
    """N = 11, 21, ..., 1281, each for K' = floor(K / 8) steps, the last one longer."""
    disc = ict_jax.make_discretization(total_steps)
    length = total_steps // 8
    for step in {0, 1, length - 1, length, 3 * length, 7 * length - 1, 7 * length, total_steps}:
        expected = min(10 * 2 ** (step // length), 1280) + 1
        assert int(ict_jax.num_scales_at(step, disc)) == expected, step


@pytest.mark.parametrize(("s0", "s1"), [(10, 160), (2, 150), (3, 7), (10, 10), (1, 1), (10, 15)])
@pytest.mark.parametrize("total_steps", [100, 1000, 4999])
def test_curriculum_formula_for_other_sizes(total_steps, s0, s1):
    disc = ict_jax.make_discretization(total_steps, s0=s0, s1=s1)
    # The logarithm of the formula in 60 digits' worth of doubles: no case here is near a tie.
    length = math.floor(total_steps / (math.log2(math.floor(s1 / s0)) + 1))
    for step in range(0, total_steps + 1, 7):
        expected = min(s0 * 2 ** (step // length), s1) + 1
        assert int(ict_jax.num_scales_at(step, disc)) == expected, step


def law(n, p_mean=-1.1, p_std=2.0):
    """Independent of the code under test: SciPy's normal law over a grid typed anew."""
    u = np.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), n) ** 7
    p = np.diff(scipy.stats.norm.cdf(np.log(u), p_mean, p_std))
    return p / p.sum()


def test_law_without_arguments_is_the_papers():
    weights = ict_jax.lognormal_law()(ict_jax.karras_sigmas(41))
    np.testing.assert_allclose(weights / weights.sum(), law(41), rtol=1e-9)


def test_the_law_keeps_its_digits_far_above_its_mean():
    sigmas = np.array([1.0, 1.1, 80.0])
    above = scipy.stats.norm.sf(np.log(sigmas) + 20)
    weights = ict_jax.lognormal_law(p_mean=-20.0, p_std=1.0)(sigmas)
    np.testing.assert_allclose(weights, 2 * (above[:-1] - above[1:]), rtol=1e-9)


def drawn_law(disc, row, n):
    """Exact probabilities of the integer draw."""
    edges = np.concatenate([[0], disc.thresholds[row, : n - 2].astype(float), [2.0**32]])
    return np.diff(edges) / 2**32


def test_law_of_the_paper_at_eleven_levels():
    expected = [0.062633, 0.181737, 0.245501, 0.213494, 0.142446]
    expected += [0.080605, 0.041080, 0.019580, 0.008944, 0.003980]
    disc = ict_jax.make_discretization(8)
    np.testing.assert_allclose(drawn_law(disc, 0, 11), expected, atol=6e-7)


@pytest.mark.parametrize("row", range(8))
def test_drawn_law_equals_the_oracle_at_every_stage(row):
    disc = ict_jax.make_discretization(8)
    n = int(disc.num_scales[row])
    np.testing.assert_allclose(drawn_law(disc, row, n), law(n), rtol=1e-4, atol=2e-10)


def chi_square(n, step, disc, expected):
    """P-value of half a million draws against expected bin probabilities."""
    lo, _ = ict_jax.draw_sigma_pair(jax.random.key(3), (500_000,), step, disc)
    grid = ict_jax.karras_sigmas(n).astype(np.float32)
    counts = np.bincount(np.searchsorted(grid, np.asarray(lo)), minlength=n - 1)
    return scipy.stats.chisquare(counts, expected * counts.sum()).pvalue


@pytest.mark.parametrize(("step", "n"), [(0, 11), (4, 161), (7, 1281)])
def test_draws_follow_the_law(step, n):
    disc = ict_jax.make_discretization(8)
    assert chi_square(n, step, disc, law(n)) > 1e-3
    assert chi_square(n, step, disc, law(n, p_mean=-1.0)) < 1e-6  # the test can tell


def test_draws_are_adjacent_levels_with_the_end_points_reached():
    disc = ict_jax.make_discretization(8, noise_law=ict_jax.uniform_law)
    for step, n in [(0, 11), (7, 1281)]:
        lo, hi = ict_jax.draw_sigma_pair(jax.random.key(0), (40_000,), step, disc)
        grid = ict_jax.karras_sigmas(n).astype(np.float32)
        index = np.searchsorted(grid, np.asarray(lo))
        np.testing.assert_array_equal(grid[index], lo)
        np.testing.assert_array_equal(grid[index + 1], hi)
        assert float(lo.min()) == np.float32(0.002) and float(hi.max()) == 80.0


def test_extreme_bits_stay_in_range(monkeypatch):
    disc = ict_jax.make_discretization(8, s0=1, s1=128)
    for bits in (0, 2**32 - 1):
        monkeypatch.setattr(
            jax.random, "bits", lambda key, shape, dtype, bits=bits: jnp.full(shape, bits, dtype)
        )
        for step in range(8):
            lo, hi = ict_jax.draw_sigma_pair(jax.random.key(0), (1,), step, disc)
            assert float(lo[0]) < float(hi[0])
            assert float(lo[0]) == np.float32(0.002) if bits == 0 else float(hi[0]) == 80.0


def test_weights_are_those_of_the_float64_grid():
    """Range of lambda in the paper's numbers, and float32 gaps to 3e-5."""
    grid = ict_jax.karras_sigmas(1281)
    weight = ict_jax.inverse_gap(jnp.float32(grid[:-1]), jnp.float32(grid[1:]))
    np.testing.assert_allclose(weight, 1 / np.diff(grid), rtol=3e-5)
    assert round(float(weight[0]), -1) == 25580 and round(float(weight[-1]), 3) == 2.936
    eleven = 1 / np.diff(ict_jax.karras_sigmas(11))
    np.testing.assert_allclose([eleven[0], eleven[-1]], [67.93, 0.0288], rtol=2e-3)
    np.testing.assert_allclose(law(11) @ eleven, 8.42, rtol=1e-3)


def test_one_compilation_serves_all_stages():
    disc = ict_jax.make_discretization(800)
    traces = []

    @jax.jit
    def loss(x, key, step):
        traces.append(step)
        f = ict_jax.as_consistency_fn(lambda x, c: 0.1 * x)
        losses, _ = ict_jax.ict_loss(f, x, key, step, disc)
        return losses.mean(), ict_jax.num_scales_at(step, disc)

    seen = [int(loss(jnp.ones((4, 3)), jax.random.key(0), k)[1]) for k in range(0, 800, 100)]
    assert seen == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert len(traces) == 1


def test_curriculum_and_law_can_be_replaced():
    disc = ict_jax.make_discretization(
        10, curriculum=lambda steps, s0, s1: [(0, 3)], noise_law=lambda s: [0, 1]
    )
    lo, hi = ict_jax.draw_sigma_pair(jax.random.key(0), (50,), 9, disc)
    assert set(np.asarray(hi)) == {80.0} and len(set(np.asarray(lo))) == 1
