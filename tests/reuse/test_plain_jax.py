"""The loss with parameters in a dict and no framework."""

import jax
import jax.numpy as jnp
import optax

from ict_jax import as_consistency_fn, ict_loss, make_discretization, sample, seed_keys
from tests.reuse.points import STEPS, points, ring_error


def test_train_and_sample():
    tx = optax.radam(1e-2)
    disc = make_discretization(total_steps=STEPS, s1=160)
    key_in, key_out = jax.random.split(jax.random.key(0))
    params = {
        "in": 0.5 * jax.random.normal(key_in, (3, 64)),
        "out": 0.1 * jax.random.normal(key_out, (64, 2)),
    }

    def network(params, x, c_noise):
        inputs = jnp.concatenate([x, c_noise[:, None]], axis=1)
        return jnp.tanh(inputs @ params["in"]) @ params["out"]

    def loss(params, x, key, step):
        f = as_consistency_fn(lambda x, c_noise: network(params, x, c_noise))
        losses, _ = ict_loss(f, x, key, step, disc)
        return losses.mean()

    @jax.jit
    def train_step(params, opt_state, step):
        key_data, key_loss = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        grads = jax.grad(loss)(params, points(key_data), key_loss, step)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = tx.init(params)
    for step in range(STEPS):
        params, opt_state = train_step(params, opt_state, step)

    f = as_consistency_fn(lambda x, c_noise: network(params, x, c_noise))
    assert ring_error(f) < 0.35
    x = sample(f, seed_keys(range(8)), (2,), sigmas=(80.0, 0.8))
    assert x.shape == (8, 2)
