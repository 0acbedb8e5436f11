"""Every mistake is made where it should be, and nowhere else."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax
from configs import ct, digits
from experiments.evidence import mistakes
from ict_jax.config import training
from ict_jax.config.check import resolve
from ict_jax.config.objective import build_discretization, build_objective
from ict_jax.config.sampling import build_draw
from ict_jax.config.training import build_dataset, build_init_state, build_train_step
from ict_jax.core.discretization import draw_sigma_pair
from ict_jax.core.objectives import Draws, sct

IN_SAMPLING = {"no_c_in", "raw_sigma", "noise_times_1000", "no_boundary", "not_clipped"}
IN_TRAINING = {
    "huber_of_each_pixel",
    "masks_not_shared",
    "teacher_without_dropout",
    "no_c_in",
    "raw_sigma",
    "noise_times_1000",
    "no_boundary",
    "grid_off_by_one",
    "levels_swapped",
    "curriculum_of_twice_the_run",
}
STEP = 15  # of 20: another stage than with a curriculum twice as long


@pytest.fixture(scope="module")
def config():
    found = digits.get_config("smoke")
    found.model.dropout = 0.2
    return resolve(found, build_dataset(found))


@pytest.fixture(scope="module")
def begun(config):
    """A state at STEP, with no layer of zeros."""
    state = build_init_state(config)()
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    leaves = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return dataclasses.replace(state, params=jax.tree.unflatten(tree, leaves), step=jnp.int32(STEP))


@pytest.fixture(scope="module")
def trained(config, begun):
    images = build_dataset(config).train.read(np.arange(32))
    batch = {"image": jnp.asarray(images.images), "label": jnp.asarray(images.labels)}

    def within(mistake):
        with mistake():
            state, _ = jax.jit(build_train_step(config))(begun, batch)
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])

    right = within(contextlib.nullcontext)
    return lambda mistake: np.abs(within(mistake) - right).max()


@pytest.fixture(scope="module")
def sampled(config, begun):
    keys, labels = ict_jax.seed_keys(range(8)), jnp.zeros(8, jnp.int32)

    def within(mistake):
        with mistake():
            draw = build_draw(config)
            return draw(begun.params, keys, labels, jnp.array([80.0, 20.0]))

    right = within(contextlib.nullcontext)
    return lambda mistake: float(jnp.abs(within(mistake) - right).max())


@pytest.mark.parametrize("name", sorted(IN_SAMPLING | IN_TRAINING))
def test_a_mistake_is_made_in_training_in_sampling_or_in_both(name, trained, sampled):
    mistake = getattr(mistakes, name)
    assert (trained(mistake) > 0) == (name in IN_TRAINING)
    assert (sampled(mistake) > 0) == (name in IN_SAMPLING)


def test_nothing_is_left_behind(trained, sampled):
    for name in IN_SAMPLING | IN_TRAINING:
        with getattr(mistakes, name)():
            pass
    assert trained(contextlib.nullcontext) == sampled(contextlib.nullcontext) == 0


@pytest.mark.parametrize("name", ["masks_not_shared", "teacher_without_dropout", None])
def test_dropout_of_the_second_call(name, config, begun):
    x, sigma, labels = jnp.ones((4, 8, 8, 1)), jnp.ones(4), jnp.zeros(4, jnp.int32)
    with contextlib.nullcontext() if name is None else getattr(mistakes, name)():
        bind = training.build_bind(config)
        f = bind(begun.params, labels, jax.random.key(1))
        student, teacher = f(x, sigma), f(x, sigma)
        evaluated = bind(begun.params, labels, None)(x, sigma)
    assert bool((student == teacher).all()) == (name is None)
    assert bool((teacher == evaluated).all()) == (name == "teacher_without_dropout")
    assert not bool((student == evaluated).all())


def test_levels_of_the_mistakes(config):
    key = jax.random.key(0)

    def pairs():
        return draw_sigma_pair(key, (4000,), config.total_steps - 1, build_tables())

    def build_tables():
        return build_discretization(config)

    low, _ = pairs()
    assert low.min() < 0.0021 and len(np.unique(low)) > 35
    with mistakes.grid_off_by_one():
        assert pairs()[0].min() > 0.0021
    with mistakes.curriculum_of_twice_the_run():
        assert len(np.unique(pairs()[0])) < 25
    with mistakes.no_boundary():
        f = ict_jax.as_consistency_fn(lambda x, c_noise: jnp.ones_like(x), sigma_data=0.5)
        assert abs(f(jnp.zeros((1, 1)), jnp.array([0.002]))) > 1e-3


def test_squares_are_summed():
    config = ct.get_config("smoke")
    x, noise = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 1))
    draws = Draws(noise, jnp.full(4, 0.1), jnp.full(4, 0.2))

    def loss():
        found = build_objective(config).loss
        return found(lambda x, sigma: x, x, draws, target=lambda x, sigma: 2 * x)[0]

    mean = loss()
    with mistakes.summed_squares():
        np.testing.assert_allclose(loss(), 64 * mean, rtol=1e-5)
    np.testing.assert_array_equal(loss(), mean)


def test_the_constant_weight_is_zero():
    own = {**sct.init_weight(jax.random.key(0)), "kernel": jnp.ones(sct.FEATURES)}
    t = jnp.array([0.1, 1.0])
    with mistakes.constant_weight():
        assert (sct.learned_weight(own, t) == 0).all()
    assert (sct.learned_weight(own, t) != 0).all()
