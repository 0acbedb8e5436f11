"""The pure training step: its results, its random draws and its metrics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ict_jax
from ict_jax.data import Batches, ImageSet, root_mean_square
from ict_jax.models import DenseNet
from ict_jax.training import step as step_module
from ict_jax.training.optimizers import make_optimizer
from ict_jax.training.state import create_state
from ict_jax.training.step import make_train_step, random_flip, scale_images

SHAPE = (4, 4, 1)
DISC = ict_jax.make_discretization(80, s1=40)
TX = make_optimizer(learning_rate=1e-2)


def make_bind(dropout=0.0):
    model = DenseNet(width=16, hidden=16, num_blocks=1, dropout=dropout)

    def bind(params, labels, key):
        def network(x, c_noise):
            rngs = {} if key is None else {"dropout": key}
            return model.apply({"params": params}, x, c_noise, train=key is not None, rngs=rngs)

        return ict_jax.as_consistency_fn(network)

    return model, bind


def new_state(model, tx=TX, seed=0):
    params = model.init(jax.random.key(seed), jnp.zeros((1, *SHAPE)), jnp.zeros(1))["params"]
    return create_state(params, tx, jax.random.key(seed + 1))


def some_batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, *SHAPE), dtype=np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.zeros(size, jnp.int32)}


def norm_of_difference(a, b):
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, a, b)))


def test_one_step_is_gradient_optimizer_and_average():
    model, bind = make_bind()
    state, batch = new_state(model), some_batch()
    objective = ict_jax.ict_objective(DISC)
    train_step = make_train_step(bind, objective, TX, ema_decay=0.9, flip=False)
    after, metrics = jax.jit(train_step)(state, batch)

    keys = jax.random.split(jax.random.fold_in(state.key, 0), 3)
    x = batch["image"] / 127.5 - 1

    def loss(params):
        return ict_jax.ict_loss(bind(params, None, None), x, keys[1], 0, DISC)[0].mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params)
    updates, _ = TX.update(grads, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after.params, expected)
    jax.tree.map(
        lambda ema, old, new: np.testing.assert_allclose(ema, 0.9 * old + 0.1 * new, rtol=1e-5),
        after.ema_params,
        state.params,
        after.params,
    )
    np.testing.assert_allclose(metrics["loss"].compute(), value, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"].compute(), optax.tree.norm(grads), rtol=1e-5)
    assert int(after.step) == 1
    np.testing.assert_array_equal(jax.random.key_data(after.key), jax.random.key_data(state.key))


def test_the_ema_moves_towards_the_student_and_lags_as_an_average():
    model, bind = make_bind()
    state = start = new_state(model)
    train_step = jax.jit(make_train_step(bind, ict_jax.ict_objective(DISC), TX, ema_decay=0.9))
    for index in range(20):
        state, _ = train_step(state, some_batch(seed=index))
    student = norm_of_difference(state.params, start.params)
    average = norm_of_difference(state.ema_params, start.params)
    assert 0.2 * student < average < 0.98 * student


def test_student_and_teacher_share_the_dropout_mask(monkeypatch):
    """Masks are visible in the outputs: at equal inputs two calls of f must agree bitwise."""
    model, bind = make_bind(dropout=0.5)
    state = new_state(model)
    params = jax.tree.map(lambda p: p + 0.1, state.params)  # off the zero initialisation
    x, sigma = jnp.ones((8, *SHAPE)), jnp.full(8, 2.0)
    f = bind(params, None, jax.random.key(0))
    np.testing.assert_array_equal(f(x, sigma), f(x, sigma))
    other = bind(params, None, jax.random.key(1))
    assert not np.array_equal(f(x, sigma), other(x, sigma))

    # And the step binds once per loss, so that both calls of f are of one binding.
    bound = []

    def counting_bind(*args):
        bound.append(args[2])
        return bind(*args)

    make_train_step(counting_bind, ict_jax.ict_objective(DISC), TX)(state, some_batch())
    assert len(bound) == 1 and bound[0] is not None


def test_dropout_masks_change_from_step_to_step():
    model, bind = make_bind(dropout=0.5)
    keys = []

    def recording_bind(params, labels, key):
        keys.append(np.asarray(jax.random.key_data(key)))
        return bind(params, labels, key)

    train_step = make_train_step(recording_bind, ict_jax.ict_objective(DISC), TX)
    state = new_state(model)
    train_step(train_step(state, some_batch())[0], some_batch())
    assert len(keys) == 2 and not np.array_equal(*keys)


def test_microbatches_have_masks_of_their_own():
    model, bind = make_bind(dropout=0.5)
    keys = []

    def recording_bind(params, labels, key):
        jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))
        return bind(params, labels, key)

    objective = ict_jax.ict_objective(DISC)
    make_train_step(recording_bind, objective, TX, accumulation_steps=4)(
        new_state(model), some_batch()
    )
    jax.effects_barrier()
    assert len(set(keys)) == 4


def test_a_target_follows_by_its_decay():
    model, bind = make_bind()
    target = new_state(model, seed=5).params
    state = create_state(new_state(model).params, TX, jax.random.key(1), {"target": target})
    objective = ict_jax.ict_objective(DISC, target_decay=0.9)
    after, _ = make_train_step(bind, objective, TX)(state, some_batch())
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, after.params)
    assert norm_of_difference(after.teachers["target"], expected) < 1e-6


@pytest.mark.parametrize("count", [2, 4])
def test_accumulation_changes_nothing_without_dropout(count):
    model, bind = make_bind()
    state, batch = new_state(model), some_batch()
    objective = ict_jax.ict_objective(DISC)
    once, metrics = make_train_step(bind, objective, TX)(state, batch)
    split, split_metrics = make_train_step(bind, objective, TX, accumulation_steps=count)(
        state, batch
    )
    assert norm_of_difference(once.params, state.params) > 0.005
    assert norm_of_difference(once.params, split.params) < 1e-5
    for name, average in metrics.items():
        np.testing.assert_allclose(
            split_metrics[name].total, average.total, rtol=1e-4, atol=1e-5, err_msg=name
        )
        assert int(split_metrics[name].count) == int(average.count), name


def test_jit_equals_no_jit():
    model, bind = make_bind(dropout=0.2)
    train_step = make_train_step(bind, ict_jax.ict_objective(DISC), TX)
    state, batch = new_state(model), some_batch()
    a, b = train_step(state, batch)[0], jax.jit(train_step)(state, batch)[0]
    assert norm_of_difference(a.params, b.params) < 1e-5


def test_the_step_sets_the_stage():
    """At the same key the draws differ once N(k) has doubled."""
    model, bind = make_bind()
    seen = []
    objective = ict_jax.ict_objective(DISC)

    def draw(key, shape, step):
        draws = objective.draw(jax.random.key(0), shape, step)
        seen.append(np.asarray(draws.sigma_hi))
        return draws

    train_step = make_train_step(bind, ict_jax.Objective(draw, objective.loss), TX)
    state = new_state(model)
    for step in (0, 25, 26):
        train_step(dataclasses.replace(state, step=jnp.int32(step)), some_batch())
    grids = [ict_jax.karras_sigmas(n).astype(np.float32) for n in (11, 21)]
    assert np.isin(seen[0], grids[0]).all() and np.isin(seen[1], grids[0]).all()
    assert np.isin(seen[2], grids[1]).all() and not np.isin(seen[2], grids[0]).all()


def test_metrics_by_sigma_add_up_to_the_loss():
    model, bind = make_bind()
    train_step = make_train_step(bind, ict_jax.ict_objective(DISC), TX)
    state = new_state(model)
    _, metrics = train_step(state, some_batch(64))
    bins = [m for name, m in metrics.items() if name.startswith("loss_by_sigma/")]
    assert len(bins) == len(step_module.SIGMA_BIN_EDGES) + 1
    key = jax.random.split(jax.random.fold_in(state.key, 0), 3)[1]
    sigmas = ict_jax.ict_objective(DISC).draw(key, (64, *SHAPE), 0).sigma_hi
    counts, _ = np.histogram(sigmas, [0, *step_module.SIGMA_BIN_EDGES, np.inf])
    assert [int(m.count) for m in bins] == list(counts)
    assert sum(int(m.count) > 0 for m in bins) > 4
    np.testing.assert_allclose(sum(float(m.total) for m in bins), metrics["loss"].total, rtol=1e-5)


def test_empty_metrics_have_the_form_of_a_steps():
    model, bind = make_bind()
    train_step = jax.jit(make_train_step(bind, ict_jax.ict_objective(DISC), TX))
    _, metrics = train_step(new_state(model), some_batch())
    assert jax.tree.structure(step_module.empty_metrics()) == jax.tree.structure(metrics)
    merged = step_module.merge_metrics(step_module.empty_metrics(), metrics)
    jax.tree.map(np.testing.assert_array_equal, merged, metrics)


def test_images_are_scaled_to_plus_minus_one():
    x = scale_images(jnp.array([[[[0], [51], [255]]]], jnp.uint8))
    np.testing.assert_allclose(x.ravel(), [-1, -0.6, 1], atol=1e-6)


def test_images_that_are_scaled_already_are_refused():
    model, bind = make_bind()
    train_step = jax.jit(make_train_step(bind, ict_jax.ict_objective(DISC), TX))
    batch = some_batch()
    floats = {**batch, "image": scale_images(batch["image"])}
    with pytest.raises(ict_jax.ArgumentError, match="images have type float32, expected uint8"):
        train_step.trace(new_state(model), floats)
    with pytest.raises(ict_jax.ArgumentError, match="images have type float32, expected uint8"):
        root_mean_square(np.asarray(floats["image"]))
    again = ((floats["image"] + 1) * 127.5).round().astype("uint8")  # as the message says
    np.testing.assert_array_equal(again, batch["image"])


def test_flips_mirror_half_of_the_images_left_to_right():
    x = jnp.broadcast_to(jnp.arange(4.0)[None, None, :, None], (4000, 2, 4, 1))
    flipped = np.asarray(random_flip(jax.random.key(0), x))[:, :, :, 0]
    mirrored = (flipped == np.arange(4)[::-1]).all((1, 2))
    assert ((flipped == np.arange(4)).all((1, 2)) | mirrored).all()
    assert 0.46 < mirrored.mean() < 0.54


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_decay": 1.0}, "training.ema_decay=1.0 must be in"),
        ({"accumulation_steps": 0}, "training.accumulation_steps=0 must be at least 1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        make_train_step(make_bind()[1], ict_jax.ict_objective(DISC), TX, **options)


def test_optimizer_error():
    with pytest.raises(ict_jax.ArgumentError, match=r"learning_rate=0.0 must be positive"):
        make_optimizer(learning_rate=0.0)


def test_optimizer_is_radam_of_the_paper():
    """First steps by hand: below the variance threshold RAdam is momentum without scaling."""
    params = {"w": jnp.array([1.0, -2.0])}
    tx = make_optimizer()
    updates, _ = tx.update({"w": jnp.array([0.5, 4.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.5e-4, -4e-4], rtol=1e-5)


def test_the_learning_rate_warms_up():
    tx, params = make_optimizer(name="adam", learning_rate=0.1, warm_up_steps=4), {"w": jnp.ones(1)}
    state, rates = tx.init(params), []
    for _ in range(6):
        updates, state = tx.update({"w": jnp.ones(1)}, state, params)
        rates.append(-float(updates["w"][0]))
    np.testing.assert_allclose(rates, [0, 0.025, 0.05, 0.075, 0.1, 0.1], atol=1e-6)


def test_batches_feed_every_example_once_an_epoch():
    data = ImageSet(np.zeros((10, 2, 2, 1), np.uint8), np.arange(10, dtype=np.int32))
    batches = Batches(data, 4, seed=0)
    stream = np.concatenate([batches(step)["label"] for step in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert list(stream[:10]) != list(stream[10:])
