"""The loss with an Equinox module that has dropout."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

from ict_jax import as_consistency_fn, ict_loss, make_discretization
from tests.reuse.points import STEPS, points, ring_error


class Network(eqx.Module):
    inner: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    outer: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.inner = eqx.nn.Linear(3, 64, key=keys[0])
        self.dropout = eqx.nn.Dropout(0.1)
        self.outer = eqx.nn.Linear(64, 2, key=keys[1])

    def __call__(self, x, c_noise, key):  # one example, as is Equinox's habit
        h = jnp.tanh(self.inner(jnp.concatenate([x, c_noise[None]])))
        return self.outer(self.dropout(h, key=key))


@pytest.mark.slow
def test_train():
    disc, tx = make_discretization(STEPS, s1=160), optax.radam(1e-2)
    model = Network(jax.random.key(0))

    def loss(model, x, key, step):
        key_loss, key_dropout = jax.random.split(key)
        keys = jax.random.split(key_dropout, len(x))

        def network(x, c_noise):  # called twice with the same keys: one mask for both
            return jax.vmap(model)(x, c_noise, keys)

        return ict_loss(as_consistency_fn(network), x, key_loss, step, disc)[0].mean()

    @eqx.filter_jit
    def train_step(model, opt_state, step):
        key_data, key = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        grads = eqx.filter_grad(loss)(model, points(key_data), key, step)
        updates, opt_state = tx.update(grads, opt_state, model)
        return eqx.apply_updates(model, updates), opt_state

    opt_state = tx.init(eqx.filter(model, eqx.is_array))
    for step in range(STEPS):
        model, opt_state = train_step(model, opt_state, jnp.int32(step))
    model = eqx.nn.inference_mode(model)
    f = as_consistency_fn(jax.vmap(lambda x, c_noise: model(x, c_noise, None)))
    assert ring_error(f) < 0.35
