"""Evaluation of a run while it trains: sample grids, and a score that selects the best."""

import functools
from collections.abc import Sequence

import numpy as np

from ict_jax.core.errors import require
from ict_jax.data import Dataset
from ict_jax.evaluation.against_set import AgainstSet, distance_name
from ict_jax.evaluation.extractors import find_extractor
from ict_jax.evaluation.extractors.base import CLASSIFIER
from ict_jax.evaluation.features import FeatureExtractor
from ict_jax.evaluation.grids import image_grid
from ict_jax.evaluation.held_out import HeldOut, check_held_out
from ict_jax.evaluation.references import compute_reference
from ict_jax.evaluation.sampler import Sampler
from ict_jax.evaluation.scorer import Comparison, Scorer
from ict_jax.runtime.processes import broadcast_from_main
from ict_jax.training.state import Params


class SampleGrids:
    """Grids of samples of fixed seeds; never touches the training state."""

    def __init__(
        self,
        sampler: Sampler,
        *,
        second_sigma: float,
        num_images: int = 64,
        diffusion_sigmas: Sequence[float] | None = None,
    ):
        """Check the values.

        Args:
          sampler: draws images by seed.
          second_sigma: second noise level of two-step samples.
          num_images: images per grid.
          diffusion_sigmas: levels of Heun's method, for a diffusion model; they replace one-step
            and two-step samples.

        Raises:
          ArgumentError: num_images < 1, or second_sigma is out of range.
        """
        low, high = sampler.sigma_min, sampler.sigma_max
        require(num_images >= 1, f"sampling.num_images={num_images} must be at least 1.")
        require(
            low <= second_sigma < high,
            f"sampling.second_sigma={second_sigma} must be at least sigma_min={low} and "
            f"below sigma_max={high}; the paper has 0.821 for CIFAR-10.",
        )
        self.sampler, self.num_images = sampler, num_images
        self.schedules = {"one_step": (high,), "two_step": (high, second_sigma)}
        if diffusion_sigmas is not None:
            self.schedules = {"heun": tuple(diffusion_sigmas)}

    def __call__(self, params: Params) -> dict[str, np.ndarray]:
        """Draw a grid of each schedule, uint8 [h, w, 3]."""
        return {
            name: image_grid(self.sampler(params, range(self.num_images), sigmas))
            for name, sigmas in self.schedules.items()
        }


class Evaluator:
    """Scores of a run while it trains, with EMA parameters; never touches the training state."""

    def __init__(
        self,
        dataset: Dataset,
        grids: SampleGrids,
        *,
        every_steps: int | None = None,
        num_samples: int = 5000,
        at_end: bool = False,
        extractor: str = CLASSIFIER,
    ):
        """Check the values; the classifier is trained when it is first needed.

        Args:
          dataset: real images to compare with.
          grids: sample grids; the samples of their first schedule are scored.
          every_steps: steps between two scores; None for none.
          num_samples: images drawn for a score.
          at_end: whether the full evaluation follows the last step.
          extractor: network of the features: "classifier", compared with the validation split, or
            a pretrained one, compared with the training images.

        Raises:
          ArgumentError: every_steps < 1, num_samples < 2, too few images are held out for the
            scores asked for, or the extractor is not available.
        """
        require(
            every_steps is None or every_steps >= 1,
            f"evaluation.every_steps={every_steps} must be at least 1, or None for never.",
        )
        require(
            num_samples >= 2,
            f"evaluation.num_samples={num_samples} must be at least 2; 5,000 is usual.",
        )
        pretrained = every_steps is not None and extractor != CLASSIFIER
        if at_end or (every_steps is not None and not pretrained):
            check_held_out(dataset)
        self._extractor = find_extractor(extractor) if pretrained else None
        self.every_steps, self.at_end, self.num_samples = every_steps, at_end, num_samples
        self.dataset, self.grids = dataset, grids

    @property
    def score_name(self) -> str:
        """Name of the score during training."""
        if self._extractor is None:
            return "validation_fd"
        return f"{distance_name(self._extractor.name)}_of_{self.num_samples}"

    def score(self, params: Params) -> float:
        """Compute the Fréchet distance of the samples of the first schedule; lower is better."""
        comparison = self.held_out if self._extractor is None else self._against_training_set
        scorer = Scorer(self.grids.sampler, params, comparison, range(self.num_samples))
        return broadcast_from_main(scorer.distance(next(iter(self.grids.schedules.values()))))

    @functools.cached_property
    def held_out(self) -> Comparison:
        """Comparison of the protocol held-out."""
        return HeldOut(self.dataset, self.grids.sampler.mesh, num_samples=self.num_samples)

    @functools.cached_property
    def _against_training_set(self) -> Comparison:
        assert self._extractor is not None
        sampler = self.grids.sampler
        extract = FeatureExtractor(self._extractor, sampler.mesh, sampler.batch_size)
        return AgainstSet(compute_reference(self.dataset.name, self.dataset.train, extract))
