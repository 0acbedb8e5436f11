"""Drawing many images by seed, in batches sharded over the devices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, UInt8

from ict_jax.core.errors import Diverged, require
from ict_jax.core.sampling import check_seeds, check_sigmas
from ict_jax.evaluation.grids import to_uint8
from ict_jax.evaluation.seed_labels import even_labels
from ict_jax.training.parallel import compile_sampler
from ict_jax.training.state import Params


class Sampler:
    """`sampler(params, seeds, sigmas)` -> uint8 images, the same for a seed in any batch.

    All schedules with the same number of steps share one compilation.
    """

    def __init__(
        self,
        draw: Callable[[Params, Any, Any, Any], Any],
        mesh: Mesh,
        *,
        sigma_min: float,
        sigma_max: float,
        num_classes: int = 0,
        batch_size: int = 256,
    ):
        """Prepare a program for batches of `batch_size`, rounded up to a multiple of the devices.

        Args:
          draw: `draw(params, keys, labels, sigmas)` -> images in [-1, 1], one per key.
          mesh: devices that share a batch.
          sigma_min: the model's smallest noise level.
          sigma_max: the model's largest noise level, the first of every schedule.
          num_classes: number of classes; 0 for an unconditional model.
          batch_size: images drawn at once.

        Raises:
          ArgumentError: batch_size < 1.
        """
        require(batch_size >= 1, f"--batch_size={batch_size} must be at least 1.")
        self.mesh = mesh
        self.batch_size = -(-batch_size // mesh.size) * mesh.size
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self._num_classes = num_classes
        self._draw = compile_sampler(draw, mesh)

    def batches(
        self,
        params: Params,
        seeds: Sequence[int] | range,
        sigmas: Sequence[float],
        labels: Sequence[int] | np.ndarray | None = None,
    ) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
        """Yield the images of the seeds in order, a batch at a time.

        Args:
          params: EMA parameters.
          seeds: one per image.
          sigmas: descending noise levels.
          labels: one class per seed; default: `even_labels`.

        Raises:
          ArgumentError: sigmas are empty, not descending or out of range; labels do not fit.
          Diverged: an image has NaN or infinite values.
        """
        check_sigmas(sigmas, self.sigma_min)
        require(
            sigmas[0] == self.sigma_max,
            f"sigmas={list(sigmas)} must begin with the model's sigma_max={self.sigma_max}, where "
            "images start as noise; put it first.",
        )
        check_seeds(seeds)
        classes = self._classes(seeds, labels)
        for start in range(0, len(seeds), self.batch_size):
            part = list(seeds[start : start + self.batch_size])
            # Pad the last batch to the compiled shape.
            padding = self.batch_size - len(part)
            padded_seeds = np.asarray(part + part[-1:] * padding, np.uint32)
            padded_classes = np.pad(classes[start : start + len(part)], (0, padding))
            levels = np.asarray(sigmas, np.float32)
            images = np.asarray(self._draw(params, padded_seeds, padded_classes, levels))
            images = images[: len(part)]
            bad = len(images) - int(np.isfinite(images).all((1, 2, 3)).sum())
            if bad:
                raise Diverged(
                    f"{bad} of {len(images)} samples are NaN or infinite: the model has diverged; "
                    "take an earlier checkpoint (--step, or --init_from for a new run with a lower "
                    "optimizer.learning_rate)."
                )
            yield to_uint8(images)

    def __call__(
        self, params: Params, seeds: Sequence[int] | range, sigmas: Sequence[float]
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Return all images of the seeds in order, with their default labels."""
        return np.concatenate(list(self.batches(params, seeds, sigmas)))

    def _classes(
        self, seeds: Sequence[int] | range, labels: Sequence[int] | np.ndarray | None
    ) -> Int32[np.ndarray, " n"]:
        if labels is None:
            return even_labels(seeds, self._num_classes)
        require(
            self._num_classes > 0,
            "labels were given and the model is unconditional; leave them out.",
        )
        require(
            len(labels) == len(seeds) and all(0 <= label < self._num_classes for label in labels),
            f"{len(labels)} labels from {min(labels)} to {max(labels)} were given for "
            f"{len(seeds)} seeds; give one for each, from 0 to {self._num_classes - 1}.",
        )
        return np.asarray(labels, np.int32)
