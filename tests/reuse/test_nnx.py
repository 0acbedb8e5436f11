"""The loss with a Flax NNX module that has dropout.

A stateful NNX module draws a new mask at every call. So that student and teacher share one,
the module is taken apart once and merged anew, from the same random state, in each call.
"""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from ict_jax import as_consistency_fn, ict_loss, make_discretization
from tests.reuse.points import STEPS, points, ring_error


class Network(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 64, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.outer = nnx.Linear(64, 2, rngs=rngs)

    def __call__(self, x, c_noise):
        h = nnx.tanh(self.inner(jnp.concatenate([x, c_noise[:, None]], axis=1)))
        return self.outer(self.dropout(h))


def seeded(graph, params, rest, key):
    """The network with its dropout stream set to `key`."""
    model = nnx.merge(graph, params, rest, copy=True)
    nnx.reseed(model, dropout=key)
    return model


@pytest.mark.slow
def test_train():
    disc, tx = make_discretization(STEPS, s1=160), optax.radam(1e-2)
    graph, params, rest = nnx.split(Network(nnx.Rngs(0, dropout=1)), nnx.Param, ...)

    def loss(params, x, key, step):
        key_loss, key_dropout = jax.random.split(key)

        def network(x, c_noise):
            return seeded(graph, params, rest, key_dropout)(x, c_noise)

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
    model = nnx.merge(graph, params, rest)
    model.eval()
    assert ring_error(as_consistency_fn(model)) < 0.35


def test_both_calls_share_the_mask():
    graph, params, rest = nnx.split(Network(nnx.Rngs(0, dropout=1)), nnx.Param, ...)
    x, c_noise = jnp.ones((16, 2)), jnp.ones(16)
    a, b, other = (
        seeded(graph, params, rest, jax.random.key(seed))(x, c_noise) for seed in (0, 0, 1)
    )
    assert jnp.array_equal(a, b) and not jnp.array_equal(a, other)
    stateful = seeded(graph, params, rest, jax.random.key(0))
    assert not jnp.array_equal(stateful(x, c_noise), stateful(x, c_noise))  # the trap
