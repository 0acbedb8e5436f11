"""The order in which training reads a set: a function of (seed, step), on hosts and devices."""

import functools
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

from ict_jax.core.randomness import permutation, seed_key

ORDER_STREAM = 0xDA7A  # separates these keys from the others of a run with the same seed


def epoch_order(seed: int, epoch: Int[Array, ""] | int, size: int) -> Int32[Array, " size"]:
    """Return the permutation of a set of `size` examples that one epoch reads."""
    key = jax.random.fold_in(seed_key(seed), ORDER_STREAM)
    return permutation(jax.random.fold_in(key, epoch), size)


def two_epochs(seed: int, epoch: Int[Array, ""] | int, size: int) -> Int32[Array, "2 size"]:
    """Return the permutations of an epoch and the next, which a batch may straddle."""
    return jnp.stack([epoch_order(seed, epoch, size), epoch_order(seed, epoch + 1, size)])


def batch_indices(
    orders: Int32[Array, "2 size"], step: Int[Array, ""] | int, batch_size: int
) -> Int32[Array, " b"]:
    """Compute `Batches.indices` on a device, where the step may be traced.

    `orders` are the `two_epochs` of the epoch in which the batch begins.
    """
    _, position = epoch_and_position(step, batch_size, orders.shape[1])
    return jax.lax.dynamic_slice_in_dim(orders.reshape(-1), position, batch_size)


def epoch_and_position(
    step: Int[Array, ""] | int, batch_size: int, size: int
) -> tuple[Int32[Array, ""], Int32[Array, ""]]:
    """Compute divmod(step * batch_size, size), where the product may exceed 32 bits."""
    step = jnp.asarray(step, jnp.uint32)

    # Binary long multiplication, reduced modulo `size` after every bit.
    def double_and_add(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        epoch, position = state
        bit = jnp.where(step >> (31 - index) & 1, batch_size, 0).astype(jnp.uint32)
        position = 2 * position + bit
        return 2 * epoch + position // size, position % size

    zero = jnp.zeros((), jnp.uint32)
    epoch, position = jax.lax.fori_loop(0, 32, double_and_add, (zero, zero))
    return epoch.astype(jnp.int32), position.astype(jnp.int32)


class HostOrder:
    """`order(positions)` -> the examples at positions of the stream; thread-safe."""

    def __init__(self, seed: int, size: int):
        self._seed, self._size = seed, size
        self._lock = threading.Lock()
        # Near a border batches read two epochs at a time.
        self._order = functools.lru_cache(maxsize=2)(self._compute_order)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return int64 indices into the set; positions count from 0 over all epochs."""
        epochs, positions = np.divmod(positions, self._size)
        index = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            at = epochs == epoch
            with self._lock:
                order = self._order(int(epoch))
            index[at] = order[positions[at]]
        return index

    def _compute_order(self, epoch: int) -> np.ndarray:
        with jax.default_device(_cpu_device()):
            return np.asarray(epoch_order(self._seed, epoch, self._size))


def _cpu_device() -> Any:
    """Return a CPU, or None if CPUs are not among the platforms that JAX may use."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
