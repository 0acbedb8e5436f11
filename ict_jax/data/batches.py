"""The batches of a run: a function of (seed, step) alone, held on devices or read ahead."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ict_jax.core.errors import require
from ict_jax.data.images import Examples, ImageSet
from ict_jax.data.order import HostOrder

DEVICE_BYTES = 2**31
"""Sets up to this size are held on every device unless the config says otherwise."""

PART = 64
"""Examples that a thread reads at a time."""


class Batches:
    """The stream of examples is one seeded permutation of the set after another.

    Batch k holds its places k b to (k + 1) b - 1, whatever the number of hosts and devices. So
    the step is the whole state, a resumed run reads on where it stopped, and each example is read
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
        """Checks the sizes.

        Args:
          data: the training split.
          batch_size: of the global batch.
          seed: of the order.
          on_device: whether every device holds the whole set and indexes it inside the training
            step; otherwise the host reads batches ahead. None: if it is in memory and takes at
            most 2 GiB.
          read_threads: that read images ahead.
          read_ahead: batches to read ahead at most.

        Raises:
          ArgumentError: a number is out of its range, or a set that is not in memory is to be held
            on the devices.
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
        """The whole set, `image` and `label`, for the devices to hold."""
        assert isinstance(self.data, ImageSet)
        return {"image": self.data.images, "label": self.data.labels}

    def indices(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """Indices into the set of the selected rows of the global batch of a step."""
        start, stop, _ = rows.indices(self.batch_size)
        return self._order(step * self.batch_size + np.arange(start, stop))

    def __call__(self, step: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """`image` uint8 [r, h, w, c] and `label` int32 [r] of the selected rows."""
        images, labels = self.data.read(self.indices(step, rows))
        return {"image": images, "label": labels}

    def stream(self, first: int, last: int, rows: slice) -> Iterator[dict[str, np.ndarray]]:
        """The same batches for the steps `first` to `last` - 1, read ahead in threads."""
        import grain  # late: it takes a second, and small sets do without it

        parts = _Parts(self, first, last, rows)
        ahead = self._ahead * parts.per_step
        options = grain.ReadOptions(min(self._threads, ahead), prefetch_buffer_size=ahead)
        read = grain.MapDataset.source(parts).to_iter_dataset(options)
        return iter(read.batch(parts.per_step, batch_fn=_join))


class _Parts:
    """The selected rows of successive batches, a few examples at a time."""

    def __init__(self, batches: Batches, first: int, last: int, rows: slice):
        self._batches, self._first, self._length = batches, first, last - first
        self._rows = range(batches.batch_size)[rows]
        self.per_step = -(-len(self._rows) // PART)

    def __len__(self) -> int:
        return self._length * self.per_step

    def __getitem__(self, index: Any) -> dict[str, np.ndarray]:
        step, part = divmod(int(index), self.per_step)
        rows = self._rows[part * PART : (part + 1) * PART]
        return self._batches(self._first + step, slice(rows.start, rows.stop))


def _join(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
