"""The loss with a Flax Linen module that has dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ict_jax import as_consistency_fn, ict_loss, make_discretization
from tests.reuse.points import STEPS, points, ring_error


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, c_noise, train):
        h = jnp.concatenate([x, c_noise[:, None]], axis=1)
        h = nn.Dropout(0.1, deterministic=not train)(nn.tanh(nn.Dense(64)(h)))
        return nn.Dense(2)(h)


def test_train():
    model, disc, tx = Network(), make_discretization(STEPS, s1=160), optax.radam(1e-2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1), train=False)

    def loss(params, x, key, step):
        key_loss, key_dropout = jax.random.split(key)

        def network(x, c_noise):  # called twice with one key: student and teacher share the mask
            return model.apply(params, x, c_noise, train=True, rngs={"dropout": key_dropout})

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
    f = as_consistency_fn(lambda x, c_noise: model.apply(params, x, c_noise, train=False))
    assert ring_error(f) < 0.35
