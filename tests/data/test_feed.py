"""The same batches on hosts and devices, in one process and in two, however a run is cut."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.jobs import free_port
from ict_jax.data import Batches, ImageSet
from ict_jax.data.order import batch_indices, epoch_and_position, epoch_order, two_epochs
from ict_jax.run.feed import feed, make_take
from ict_jax.training import parallel
from tests.helpers import ROOT


def numbered(size):
    images = np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1)
    return ImageSet(images, np.arange(size, dtype=np.int32))


@pytest.mark.parametrize(
    ("batch_size", "size"), [(1, 1), (3, 7), (128, 997), (1024, 50_000), (4096, 1_281_167)]
)
def test_epoch_and_place_are_those_of_whole_numbers(batch_size, size):
    """Also where the number of examples read exceeds 32 bits."""
    steps = np.array([0, 1, 2, size // batch_size, 799_999, 2**31 - 1])
    found = jax.vmap(lambda step: epoch_and_position(step, batch_size, size))(steps)
    expected = [divmod(int(step) * batch_size, size) for step in steps]
    fits = [(epoch, place) for epoch, place in expected if epoch < 2**31]
    assert len(fits) >= 5
    np.testing.assert_array_equal(np.stack(found, axis=1)[: len(fits)], fits)


def test_order_in_the_step_is_that_of_the_host():
    size, batch_size = 50, 8
    batches = Batches(numbered(size), batch_size, seed=1)
    indices = jax.jit(batch_indices, static_argnums=2)
    for step in (0, 5, 6, 7, 24, 25, 26, 1000):
        orders = two_epochs(1, step * batch_size // size, size)
        np.testing.assert_array_equal(indices(orders, step, batch_size), batches.indices(step))


def test_the_order_is_random():
    """Each place of an epoch gets each example equally often (chi-square, 200 epochs)."""
    size, epochs = 10, 2000
    orders = jax.vmap(lambda epoch: epoch_order(0, epoch, size))(np.arange(epochs))
    counts = np.array([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    chi_square = ((counts - epochs / size) ** 2 / (epochs / size)).sum(1)
    assert chi_square.max() < 33.7  # 9 degrees of freedom, p = 1e-4


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_feeds_are_the_batches_of_the_step(on_device, num_devices):
    """From any step on, sharded; the host reads nothing if the set is replicated on devices."""
    reads = []

    class Counted(ImageSet):
        def read(self, index):
            reads.append(index)
            return super().read(index)

    batches = Batches(Counted(*numbered(30)), 8, seed=2, on_device=on_device)
    mesh = parallel.make_mesh(num_devices=num_devices)
    take = jax.jit(make_take(batches), out_shardings=parallel.batch_sharding(mesh))
    expected = Batches(numbered(30), 8, seed=2)
    for step, fed in enumerate(feed(batches, mesh, 3, 15), start=3):
        batch = take(fed, step)
        for name, values in expected(step).items():
            np.testing.assert_array_equal(batch[name], values)
            assert batch[name].dtype == values.dtype
            assert batch[name].addressable_shards[0].data.shape[0] == 8 // num_devices
    assert step == 14
    assert bool(reads) != on_device


def test_large_sets_are_not_replicated_on_the_devices():
    class Large(ImageSet):
        @property
        def images(self):
            return np.lib.stride_tricks.as_strided(
                np.zeros(1, np.uint8), (2**31 + 1, 1, 1, 1), (0, 0, 0, 0)
            )

    assert Batches(numbered(30), 8, seed=0).on_device
    assert not Batches(Large(*numbered(30)), 8, seed=0).on_device


PROCESS = """
import sys
import jax
process, count, port, first, last = map(int, sys.argv[1:])
jax.config.update("jax_platforms", "cpu")
if count > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=process)
from ict_jax.data import Batches
from ict_jax.run.feed import feed, make_take
from ict_jax.training import parallel
from tests.data.test_feed import numbered

batches = Batches(numbered(50), 8, seed=4, on_device=sys.stdin.read() == "device")
mesh = parallel.make_mesh()
take = jax.jit(make_take(batches), out_shardings=parallel.batch_sharding(mesh))
for step, fed in enumerate(feed(batches, mesh, first, last), start=first):
    shards = take(fed, step)["label"].addressable_shards
    print("read", step, *(int(label) for shard in shards for label in shard.data), flush=True)
"""


def run_processes(count, first, last, how):
    """Return the labels that each process read in each step."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *map(str, (process, count, port, first, last))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    for process in processes:
        process.stdin.write(how)
        process.stdin.close()
    deadline, read = time.monotonic() + 120, []
    for process in processes:
        assert process.wait(deadline - time.monotonic()) == 0, process.stderr.read()
        lines = [line.split()[1:] for line in process.stdout if line.startswith("read ")]
        read.append({int(step): list(map(int, labels)) for step, *labels in lines})
        process.stdout.close()
        process.stderr.close()
    return read


@pytest.mark.parametrize("how", ["device", pytest.param("host", marks=pytest.mark.slow)])
def test_two_processes_and_then_one_read_every_example_once_an_epoch(how):
    """Two processes read 15 steps, one process goes on in the middle of the third epoch."""
    first, second = run_processes(2, 0, 15, how)
    (alone,) = run_processes(1, 15, 25, how)
    assert all(len(labels) == 4 for part in (first, second) for labels in part.values())
    fed = {step: first[step] + second[step] for step in range(15)} | alone
    straight = Batches(numbered(50), 8, seed=4)
    for step in range(25):
        assert fed[step] == list(straight(step)["label"]), step
    stream = [label for step in range(25) for label in fed[step]]
    for epoch in range(4):
        assert sorted(stream[50 * epoch : 50 * (epoch + 1)]) == list(range(50))
