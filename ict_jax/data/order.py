"""The order in which training reads a set: a function of (seed, step), on hosts and devices."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

from ict_jax.core.randomness import permutation, seed_key

STREAM = 0xDA7A
"""Keeps the keys of the order apart from those of the rest of a run with the same seed."""


def epoch_order(seed: int, epoch: Int[Array, ""] | int, size: int) -> Int32[Array, " size"]:
    """The permutation of a set of `size` examples that one epoch reads."""
    key = jax.random.fold_in(seed_key(seed), STREAM)
    return permutation(jax.random.fold_in(key, epoch), size)


def two_epochs(seed: int, epoch: Int[Array, ""] | int, size: int) -> Int32[Array, "2 size"]:
    """The permutations of an epoch and of the next, which a batch at the border also reads."""
    return jnp.stack([epoch_order(seed, epoch, size), epoch_order(seed, epoch + 1, size)])


def batch_indices(
    orders: Int32[Array, "2 size"], step: Int[Array, ""] | int, batch_size: int
) -> Int32[Array, " b"]:
    """Indices of the examples of the global batch of a step, which may be traced.

    The stream of examples is one epoch's permutation after another; the batch of step k holds
    its places k b to (k + 1) b - 1, so each example is read once an epoch whatever b is.

    Args:
      orders: `two_epochs` of the epoch in which the batch begins.
      step: k, the number of steps before this one.
      batch_size: b, at most the size of the set.
    """
    _, place = epoch_and_place(step, batch_size, orders.shape[1])
    return jax.lax.dynamic_slice_in_dim(orders.reshape(-1), place, batch_size)


def epoch_and_place(
    step: Int[Array, ""] | int, batch_size: int, size: int
) -> tuple[Int32[Array, ""], Int32[Array, ""]]:
    """(step * batch_size) // size and its remainder, where the product may exceed 32 bits."""
    step = jnp.asarray(step, jnp.uint32)

    def double_and_add(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        epoch, place = state
        place = 2 * place + jnp.where(step >> (31 - index) & 1, batch_size, 0).astype(jnp.uint32)
        return 2 * epoch + place // size, place % size

    zero = jnp.zeros((), jnp.uint32)
    epoch, place = jax.lax.fori_loop(0, 32, double_and_add, (zero, zero))
    return epoch.astype(jnp.int32), place.astype(jnp.int32)


class HostOrder:
    """`order(places)` -> the examples at places of the stream, the same as `batch_indices`.

    Threads may share one.
    """

    def __init__(self, seed: int, size: int):
        self._size = size
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Indices into the set; places count from 0 over all epochs, int64."""
        epochs, places = np.divmod(places, self._size)
        index = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            at = epochs == epoch
            index[at] = self._order(int(epoch))[places[at]]
        return index

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                # Two epochs are read at a time, where one ends and the next begins.
                self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1}
                with jax.default_device(_host_device()):
                    self._orders[epoch] = np.asarray(epoch_order(self._seed, epoch, self._size))
            return self._orders[epoch]


def _host_device() -> Any:
    """A CPU, which need not be among the platforms that JAX was told to use."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
