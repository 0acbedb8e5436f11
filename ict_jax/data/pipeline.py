"""Batches as a function of the step alone: nothing to save, exact on resume."""

import numpy as np

from ict_jax.core.errors import require
from ict_jax.data.images import ImageSet


class Batches:
    """`batches(step)` -> the rows of the global batch of that step that `rows` selects.

    The stream of examples is one seeded permutation of the set after another; batch k holds
    its places k b to (k + 1) b - 1. It depends on the seed and the step, not on how many
    hosts or devices share the batch.
    """

    def __init__(self, data: ImageSet, batch_size: int, seed: int):
        """Checks the sizes.

        Raises:
          ArgumentError: batch_size < 1, or more than the images there are.
        """
        require(
            1 <= batch_size <= len(data.images),
            f"batch_size={batch_size} must be between 1 and the {len(data.images)} training "
            "images; choose a smaller batch.",
        )
        self._data = data
        self._batch_size = batch_size
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, step: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """`image` uint8 [r, h, w, c] and `label` int32 [r] of the selected rows."""
        index = self.indices(step)[rows]
        return {"image": self._data.images[index], "label": self._data.labels[index]}

    def indices(self, step: int) -> np.ndarray:
        """Indices into the set of the whole global batch of a step, [b]."""
        size = len(self._data.images)
        places = step * self._batch_size + np.arange(self._batch_size)
        epochs = places // size
        return np.concatenate(
            [self._order(int(epoch))[places[epochs == epoch] % size] for epoch in np.unique(epochs)]
        )

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch spans at most two epochs, so two orders are kept.
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            rng = np.random.default_rng([self._seed, epoch])
            self._orders[epoch] = rng.permutation(len(self._data.images))
        return self._orders[epoch]
