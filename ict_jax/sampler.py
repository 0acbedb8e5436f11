"""Drawing many images by seed, in batches spread over the devices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from ict_jax.core.errors import require
from ict_jax.core.sampling import check_sigmas, seed_keys
from ict_jax.core.typing import Data
from ict_jax.pictures import to_uint8
from ict_jax.training.parallel import compile_sampler
from ict_jax.training.state import Params


class Sampler:
    """`sampler(params, seeds, sigmas)` -> uint8 images, the same for a seed in any batch.

    One compilation serves all noise levels of the same number of steps.
    """

    def __init__(
        self,
        draw: Callable[[Params, Any, Any], Data],
        mesh: Mesh,
        *,
        sigma_min: float,
        batch_size: int = 256,
    ):
        """Prepares a program for batches of `batch_size`, rounded up to the devices.

        Args:
          draw: `draw(params, keys, sigmas)` -> images in [-1, 1], one per key.
          mesh: devices to spread a batch over.
          sigma_min: the model's smallest noise level.
          batch_size: images drawn at once.

        Raises:
          ArgumentError: batch_size < 1.
        """
        require(batch_size >= 1, f"--batch_size={batch_size} must be at least 1.")
        self._batch_size = -(-batch_size // mesh.size) * mesh.size
        self._sigma_min = sigma_min
        self._draw = compile_sampler(draw, mesh)

    def batches(
        self, params: Params, seeds: Sequence[int] | range, sigmas: Sequence[float]
    ) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
        """Yields the images of the seeds in order, a batch at a time.

        Raises:
          ArgumentError: sigmas are empty, not descending, or below sigma_min.
        """
        check_sigmas(sigmas, self._sigma_min)
        for start in range(0, len(seeds), self._batch_size):
            part = list(seeds[start : start + self._batch_size])
            # The last batch is filled up, so that every batch has the compiled shape.
            padded = part + part[-1:] * (self._batch_size - len(part))
            images = self._draw(params, seed_keys(padded), jnp.asarray(sigmas, jnp.float32))
            yield to_uint8(np.asarray(images))[: len(part)]

    def __call__(
        self, params: Params, seeds: Sequence[int] | range, sigmas: Sequence[float]
    ) -> UInt8[np.ndarray, "n h w c"]:
        """All images of the seeds, in order."""
        return np.concatenate(list(self.batches(params, seeds, sigmas)))
