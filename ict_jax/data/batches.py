"""Batches of a run: a function of (seed, step) alone, replicated on devices or read ahead."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ict_jax.core.errors import require
from ict_jax.data.images import Examples, ImageSet
from ict_jax.data.order import HostOrder

DEVICE_BYTES = 2**31  # size up to which a set is replicated on every device by default
CHUNK = 64  # examples that a thread reads at a time


class Batches:
    """Stream of examples: one seeded permutation of the set after another.

    Batch k holds positions k b to (k + 1) b - 1, whatever the number of hosts and devices. So the
    step is the whole state, a resumed run continues where it stopped, and each example is read
    once an epoch.
    """

    def __init__(
        self,
        data: Examples,
        batch_size: int,
        seed: int,
        *,
        on_device: bool | None = None,
        read_threads: int = 4,
        read_ahead: int = 4,
    ):
        """Check the sizes.

        Args:
          data: training split.
          batch_size: global batch size.
          seed: seed of the order.
          on_device: replicate the set on every device and index it in the training step; otherwise
            the host reads batches ahead. None: if it is in memory and at most 2 GiB.
          read_threads: number of threads that read images.
          read_ahead: maximum number of batches to read ahead.

        Raises:
          ArgumentError: a number is out of range, or `on_device` with a set that is not in memory.
        """
        require(
            1 <= batch_size <= data.size,
            f"batch_size={batch_size} must be between 1 and the {data.size} training "
            "images; choose a smaller batch.",
        )
        require(
            read_threads >= 1 and read_ahead >= 1,
            f"pipeline.read_threads={read_threads} and pipeline.read_ahead={read_ahead} must be at "
            "least 1; 4 and 4 are usual.",
        )
        in_memory = isinstance(data, ImageSet)
        require(
            in_memory or not on_device,
            "pipeline.on_device=True, but the training images are on disk; set "
            "config.data.in_memory=True too, or leave it out.",
        )
        if on_device is None:
            on_device = in_memory and data.images.nbytes <= DEVICE_BYTES
        self.on_device = on_device
        self.seed = seed
        self.batch_size = batch_size
        self.data = data
        self._threads = read_threads
        self._ahead = read_ahead
        self._order = HostOrder(seed, data.size)

    def all_examples(self) -> dict[str, np.ndarray]:
        """Return the whole set, `image` and `label`, to replicate on the devices."""
        assert isinstance(self.data, ImageSet)
        return {"image": self.data.images, "label": self.data.labels}

    def indices(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """Return the indices into the set of the selected rows of a step's global batch."""
        start, stop, _ = rows.indices(self.batch_size)
        return self._order(step * self.batch_size + np.arange(start, stop))

    def __call__(self, step: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """Read `image` uint8 [r, h, w, c] and `label` int32 [r] of the selected rows."""
        images, labels = self.data.read(self.indices(step, rows))
        return {"image": images, "label": labels}

    def stream(self, first: int, last: int, rows: slice) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over the same batches for steps `first` to `last` - 1, read ahead in threads."""
        import grain  # late: it takes a second, and small sets do without it

        chunks = _Chunks(self, first, last, rows)
        ahead = self._ahead * chunks.per_step
        options = grain.ReadOptions(min(self._threads, ahead), prefetch_buffer_size=ahead)
        read = grain.MapDataset.source(chunks).to_iter_dataset(options)
        return iter(read.batch(chunks.per_step, batch_fn=_concatenate))


class _Chunks:
    """The selected rows of successive batches, a few examples at a time."""

    def __init__(self, batches: Batches, first: int, last: int, rows: slice):
        self._batches, self._first, self._length = batches, first, last - first
        self._rows = range(batches.batch_size)[rows]
        self.per_step = -(-len(self._rows) // CHUNK)

    def __len__(self) -> int:
        return self._length * self.per_step

    def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
        step, chunk = divmod(int(index), self.per_step)
        rows = self._rows[chunk * CHUNK : (chunk + 1) * CHUNK]
        return self._batches(self._first + step, slice(rows.start, rows.stop))


def _concatenate(chunks: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
