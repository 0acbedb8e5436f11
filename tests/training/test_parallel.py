"""One program on one device and on four."""

import collections
import functools

import jax
import numpy as np
import pytest

import ict_jax
from configs import ct, fashion_mnist, scd
from ict_jax.config.check import resolve
from ict_jax.config.network import build_init_params
from ict_jax.config.objective import build_discretization
from ict_jax.config.sampling import build_draw, sampler_arguments
from ict_jax.config.training import (
    build_batches,
    build_dataset,
    build_init_state,
    build_train_step,
)
from ict_jax.evaluation.sampler import Sampler
from ict_jax.run.feed import feed, make_take
from ict_jax.run.preflight.collectives import collectives
from ict_jax.training import parallel
from ict_jax.training.step import empty_metrics
from tests.helpers import smoke_config

STEPS = 50
RANGE = {"sigma_min": 0.002, "sigma_max": 80.0}


def compiled(config, batches, mesh):
    """Return `advance(state, window, fed)` of a run."""
    step = build_train_step(config, mesh)
    return parallel.compile_train_step(step, mesh, make_take(batches))


def train(num_devices, fsdp=1, config=None, **changes):
    """Return the losses of 50 steps, the EMA parameters and eight samples."""
    config = smoke_config(**changes) if config is None else config
    dataset = build_dataset(config)
    config = resolve(config, dataset)
    batches = build_batches(config, dataset)
    mesh = parallel.make_mesh(num_devices=num_devices, fsdp=fsdp)
    state, window = parallel.init_on_mesh(
        lambda: (build_init_state(config)(), empty_metrics()), mesh
    )
    advance = compiled(config, batches, mesh)
    losses = []
    for fed in feed(batches, mesh, 0, STEPS):
        state, window = advance(state, window, fed)
        losses.append(float(window["loss"].total))
    teachers = {name: teacher for name, teacher in state.teachers.items() if name != "metric"}
    for teacher, student in zip(
        jax.tree.leaves(teachers), jax.tree.leaves(state.params), strict=False
    ):
        assert teacher.sharding == student.sharding
    sampler = Sampler(build_draw(config), mesh, sigma_min=0.002, sigma_max=80.0, batch_size=8)
    numbers, labels = np.arange(8, dtype=np.uint32), np.arange(8, dtype=np.int32)
    x = sampler._draw(state.ema_params, numbers, labels, np.float32([80.0, 0.8]))
    return np.diff(losses, prepend=0), jax.device_get(state.ema_params), np.asarray(x)


@pytest.fixture(scope="module")
def one_device():
    return train(1)


@pytest.mark.parametrize(("num_devices", "fsdp"), [(4, 1), (4, 2), (4, 4)])
def test_devices_agree(one_device, num_devices, fsdp):
    losses, params, x = train(num_devices, fsdp)
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
    np.testing.assert_allclose(x, one_device[2], rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, one_device[1])


@pytest.mark.slow
@pytest.mark.parametrize("module", [ct, scd], ids=["ct", "scd"])
def test_teachers_and_loss_parameters_are_sharded_and_agree(module):
    """An EMA teacher; a denoiser, a learned weight and a derivative along the noise level."""
    losses, params, x = train(1, config=module.get_config("smoke"))
    others = train(4, 2, config=module.get_config("smoke"))
    np.testing.assert_allclose(others[0], losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(others[2], x, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), others[1], params)


SMALL = 600
"""Bytes of the scalars that a step reduces beside the gradients: metrics and norms."""


@functools.cache
def exchanged(fsdp, **pipeline):
    """Return the bytes of a step on four devices by kind of collective, and the state."""
    config = smoke_config()
    config.pipeline.update(pipeline)
    config = resolve(config, dataset := build_dataset(config))
    mesh = parallel.make_mesh(num_devices=4, fsdp=fsdp)
    batches = build_batches(config, dataset)
    progress = parallel.init_on_mesh(lambda: (build_init_state(config)(), empty_metrics()), mesh)
    fed = next(feed(batches, mesh, 0, 1))
    program = compiled(config, batches, mesh).lower(*progress, fed).compile().as_text()
    num_bytes = collections.Counter()
    for collective in collectives(program):
        assert collective.dtypes <= {"f32", "s32"}
        num_bytes[collective.kind] += collective.num_bytes
    return num_bytes, progress[0]


def bytes_of(leaves):
    return sum(leaf.nbytes for leaf in leaves)


def trained(state):
    """The parameters that have a gradient: the frequencies of the noise embedding have none."""
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    return [leaf for path, leaf in leaves if path[-1].key != "W"]


@pytest.mark.parametrize("on_device", [True, False])
def test_devices_exchange_gradients_alone(on_device):
    """Every device takes its rows from its own copy of the set; one reduction of the gradients."""
    num_bytes, state = exchanged(1, on_device=on_device)
    assert set(num_bytes) == {"all-reduce"}
    gradient = bytes_of(trained(state))
    assert gradient <= num_bytes["all-reduce"] <= gradient + SMALL


def test_sharded_parameters_are_gathered_once_and_gradients_reduced_once():
    num_bytes, state = exchanged(4)
    leaves = jax.tree.leaves(state.params)
    sharded = [leaf for leaf in leaves if not leaf.is_fully_replicated]
    assert bytes_of(sharded) > 0.9 * bytes_of(leaves)
    assert num_bytes["all-gather"] == bytes_of(sharded)
    # XLA makes reduce-scatters of these all-reduces on accelerators, not on CPUs.
    gradient = bytes_of(trained(state))
    assert gradient <= num_bytes["all-reduce"] <= gradient + SMALL
    assert set(num_bytes) == {"all-gather", "all-reduce"}


@pytest.mark.slow
def test_in_low_precision_gradients_are_summed_in_float32(tmp_path):
    """In the partitioned program: CPUs sum in float32 whatever it says."""
    config = fashion_mnist.get_config("smoke")
    narrow = {"channels": 4, "channel_mult": (1,), "num_res_blocks": 1}
    config.model.update({**narrow, "attention_resolutions": (), "dtype": "bfloat16"})
    # A program in no cache: a cached one would not be partitioned again.
    config.optimizer.learning_rate = float(np.random.default_rng().uniform(1e-4, 1e-3))
    config = resolve(config, dataset := build_dataset(config))
    mesh = parallel.make_mesh(num_devices=4)
    batches = build_batches(config, dataset)
    progress = parallel.init_on_mesh(lambda: (build_init_state(config)(), empty_metrics()), mesh)
    fed = next(feed(batches, mesh, 0, 1))
    lowered = compiled(config, batches, mesh).lower(*progress, fed)
    lowered.compile({"xla_dump_to": str(tmp_path), "xla_dump_hlo_pass_re": "spmd-partitioning"})
    (partitioned,) = tmp_path.glob("*.after_spmd-partitioning.*.txt")
    found = collectives(partitioned.read_text())
    assert "bf16[" in partitioned.read_text()
    assert {dtype for collective in found for dtype in collective.dtypes} == {"f32", "s32"}
    assert sum(collective.num_bytes for collective in found) >= bytes_of(trained(progress[0]))


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((64, 128), (None, "fsdp")),
        ((128, 64), ("fsdp",)),
        ((6, 1001), ()),  # nothing to divide
        ((8, 8), ()),  # too small
    ],
)
def test_the_longest_axis_is_sharded(shape, spec):
    mesh = parallel.make_mesh(num_devices=4, fsdp=4)
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert tuple(parallel.state_sharding(leaf, mesh).spec) == spec


def test_all_of_the_state_is_created_sharded():
    _, state = exchanged(4)
    largest = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
    for tree in (state.params, state.ema_params, state.opt_state):
        same = [leaf for leaf in jax.tree.leaves(tree) if leaf.shape == largest.shape]
        assert same and all(leaf.addressable_shards[0].data.size == leaf.size // 4 for leaf in same)


@pytest.fixture(scope="module")
def without_dropout():
    return train(1, dropout=0.0)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_accumulation_on_devices_agrees(without_dropout, fsdp):
    """Without dropout, whose masks depend on the size of the microbatches."""
    losses, _, x = train(2, fsdp, dropout=0.0, accumulation_steps=2)
    np.testing.assert_allclose(losses, without_dropout[0], rtol=1e-5)
    np.testing.assert_allclose(x, without_dropout[2], rtol=1e-5, atol=1e-5)


def test_state_is_donated():
    config = resolve(smoke_config(), dataset := build_dataset(smoke_config()))
    mesh = parallel.make_mesh(num_devices=2)
    state, window = parallel.init_on_mesh(
        lambda: (build_init_state(config)(), empty_metrics()), mesh
    )
    batches = build_batches(config, dataset)
    fed = next(feed(batches, mesh, 0, 1))
    compiled(config, batches, mesh)(state, window, fed)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(fed))


def test_samples_do_not_depend_on_the_batch_size():
    config = resolve(smoke_config(), build_dataset(smoke_config()))
    mesh = parallel.make_mesh(num_devices=2)
    params = build_init_params(config)(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.02, params)  # off the zero initialisation
    images = [
        Sampler(build_draw(config), mesh, batch_size=size, **sampler_arguments(config))(
            params, range(10), (80.0, 0.8)
        )
        for size in (3, 10, 64)
    ]
    assert images[0].shape == (10, 8, 8, 1) and images[0].dtype == np.uint8
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_errors():
    with pytest.raises(ict_jax.ArgumentError, match=r"mesh.num_devices=99, but there are 4"):
        parallel.make_mesh(num_devices=99)
    with pytest.raises(ict_jax.ArgumentError, match=r"mesh.fsdp=3 does not divide the 4 devices"):
        parallel.make_mesh(num_devices=4, fsdp=3)
    with pytest.raises(ict_jax.ArgumentError, match=r"batch_size=6 is not divisible by 4 devices"):
        parallel.check_batch_size(6, 1, parallel.make_mesh(num_devices=4))
    with pytest.raises(ict_jax.ArgumentError, match="x 3 accumulation steps; use a multiple of 6"):
        parallel.check_batch_size(8, 3, parallel.make_mesh(num_devices=2))


def test_labels_are_those_of_the_seed_unless_given():
    def draw(params, keys, labels, sigmas):
        return jax.numpy.broadcast_to(labels[:, None, None, None] / 10.0, (len(keys), 1, 1, 1))

    mesh = parallel.make_mesh(num_devices=2)
    sampler = Sampler(draw, mesh, **RANGE, num_classes=10, batch_size=4)
    seen = sampler(None, range(8, 13), (80.0,)).ravel()
    given = np.concatenate(list(sampler.batches(None, [0, 1], (80.0,), [9, 8]))).ravel()
    expected = [int((label / 10 + 1) * 127.5) for label in (8, 9, 0, 1, 2, 9, 8)]
    np.testing.assert_allclose([*seen, *given], expected, atol=1)
    with pytest.raises(ict_jax.ArgumentError, match="2 labels from 1 to 10 were given for 2 seeds"):
        list(sampler.batches(None, [0, 1], (80.0,), [1, 10]))
    unconditional = Sampler(draw, mesh, **RANGE)
    with pytest.raises(ict_jax.ArgumentError, match="the model is unconditional; leave them out"):
        list(unconditional.batches(None, [0], (80.0,), [1]))


def test_one_compilation_trains_through_all_stages(monkeypatch):
    """The jitted step of a whole run is traced once, and N rises in it."""
    traces, original = [], ict_jax.core.objectives.base.draw_sigma_pair

    def counting(*arguments):
        traces.append(1)
        return original(*arguments)

    monkeypatch.setattr(ict_jax.core.objectives.base, "draw_sigma_pair", counting)
    config = smoke_config()
    config.discretization.s1 = 1280
    config.total_steps = 16
    dataset = build_dataset(config)
    config = resolve(config, dataset)
    batches, disc = build_batches(config, dataset), build_discretization(config)
    mesh = parallel.make_mesh(num_devices=2)
    state, window = parallel.init_on_mesh(
        lambda: (build_init_state(config)(), empty_metrics()), mesh
    )
    advance = compiled(config, batches, mesh)
    seen = []
    for fed in feed(batches, mesh, 0, 16):
        seen.append(int(ict_jax.num_scales_at(state.step, disc)))
        state, window = advance(state, window, fed)
    assert seen[::2] == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert len(traces) == 1
