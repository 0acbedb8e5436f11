"""Inputs of the training step: batches from the host, or the whole set on the devices."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from jax.sharding import Mesh

from ict_jax.core.typing import Step
from ict_jax.data import Batches
from ict_jax.data.order import batch_indices, two_epochs
from ict_jax.training import parallel
from ict_jax.training.step import Batch

ORDERS = "orders"


def feed(batches: Batches, mesh: Mesh, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield the inputs of the steps `first` to `last` - 1, from which `make_take` takes batches.

    They are the batches themselves, read ahead; or, at every step, the whole set, replicated, and
    the order of the epoch: then the host only asks for the next order once per epoch.
    """
    if not batches.on_device:
        rows = parallel.local_rows(batches.batch_size, mesh)
        for batch in batches.stream(first, last, rows):
            yield parallel.shard_batch(batch, mesh)
        return
    all_examples, size = parallel.replicate(batches.all_examples(), mesh), batches.data.size
    orders_of = parallel.jit_replicated(
        functools.partial(two_epochs, batches.seed, size=size), mesh
    )
    current, orders = None, None
    for step in range(first, last):
        epoch = step * batches.batch_size // size
        if epoch != current:
            current, orders = epoch, orders_of(epoch)
        yield {**all_examples, ORDERS: orders}


def make_take(batches: Batches) -> Callable[[dict[str, Any], Step], Batch]:
    """Make `take(fed, step)` -> the batch of a step, called inside the training step."""

    def take(fed: dict[str, Any], step: Step) -> Batch:
        if ORDERS not in fed:
            return fed
        index = batch_indices(fed[ORDERS], step, batches.batch_size)
        return {name: array[index] for name, array in fed.items() if name != ORDERS}

    return take
