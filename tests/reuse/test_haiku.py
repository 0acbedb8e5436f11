"""The loss with a Haiku network that has dropout."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import optax
import pytest

from ict_jax import as_consistency_fn, ict_loss, make_discretization
from tests.reuse.points import STEPS, points, ring_error


def forward(x, c_noise, train=True):
    h = jnp.concatenate([x, c_noise[:, None]], axis=1)
    h = jnp.tanh(hk.Linear(64)(h))
    if train:
        h = hk.dropout(hk.next_rng_key(), 0.1, h)
    return hk.Linear(2)(h)


@pytest.mark.slow
def test_train():
    disc, tx = make_discretization(STEPS, s1=160), optax.radam(1e-2)
    model = hk.transform(forward)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))

    def loss(params, x, key, step):
        key_loss, key_dropout = jax.random.split(key)

        def network(x, c_noise):  # called twice with one key: student and teacher share the mask
            return model.apply(params, key_dropout, x, c_noise)

        return ict_loss(as_consistency_fn(network), x, key_loss, step, disc)[0].mean()

    @jax.jit
    def train_step(params, opt_state, step):
        key_data, key = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        grads = jax.grad(loss)(params, points(key_data), key, step)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = tx.init(params)
    for step in range(STEPS):
        params, opt_state = train_step(params, opt_state, step)
    model = hk.without_apply_rng(hk.transform(functools.partial(forward, train=False)))
    f = as_consistency_fn(functools.partial(model.apply, params))
    assert ring_error(f) < 0.35
