"""The evaluation of a run: sample grids, a score while training, all scores at the end."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from ict_jax.core.errors import require
from ict_jax.data import Dataset
from ict_jax.evaluation.extractors import Extractor, find_extractor
from ict_jax.evaluation.features import Describer
from ict_jax.evaluation.grids import image_grid, save_png
from ict_jax.evaluation.held_out import (
    Scorer,
    check_held_out,
    choose_second_sigma,
    score_model,
    table,
)
from ict_jax.evaluation.measure import distance_name
from ict_jax.evaluation.metrics.frechet import MomentSums, frechet_distance
from ict_jax.evaluation.references import Reference, reference_of
from ict_jax.evaluation.sampler import Sampler
from ict_jax.runtime.console import progress, say
from ict_jax.runtime.processes import from_main, is_main
from ict_jax.runtime.storage import write_at_once
from ict_jax.training.state import Params

CLASSIFIER = "classifier"
"""The one that is trained on the data set itself."""


class Evaluator:
    """Draws and scores with the averaged parameters; never touches the training state."""

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        *,
        sigma_min: float,
        sigma_max: float,
        second_sigma: float,
        num_images: int = 64,
        every_steps: int | None = None,
        num_samples: int = 5000,
        at_end: bool = False,
        extractor: str = CLASSIFIER,
        diffusion_sigmas: Sequence[float] | None = None,
    ):
        """Checks the numbers; the classifier is trained when it is first needed.

        Args:
          dataset: whose held-out splits are compared with.
          sampler: draws images of given seeds.
          sigma_min: the model's smallest noise level.
          sigma_max: its largest, the first of every sampling.
          second_sigma: the second of two-step grids while training.
          num_images: in a grid.
          every_steps: steps between two scores; None for none.
          num_samples: images drawn for a score.
          at_end: whether the whole evaluation follows the last step.
          extractor: in whose features the scores while training are: "classifier", against the
            validation split; or a pretrained one, against the training images.
          diffusion_sigmas: levels of Heun's method, for a diffusion model; then there are no
            one-step and two-step samples.

        Raises:
          ArgumentError: every_steps < 1, num_samples < 2, a sigma that cannot be sampled at,
            scores are asked for and too few images are held out, or the extractor is not to be
            had.
        """
        require(
            every_steps is None or every_steps >= 1,
            f"evaluation.every_steps={every_steps} must be at least 1, or None for never.",
        )
        require(
            num_samples >= 2,
            f"evaluation.num_samples={num_samples} must be at least 2; 5,000 is usual.",
        )
        require(num_images >= 1, f"sampling.num_images={num_images} must be at least 1.")
        require(
            sigma_min <= second_sigma < sigma_max,
            f"sampling.second_sigma={second_sigma} must be at least sigma_min={sigma_min} and "
            f"below sigma_max={sigma_max}; the paper has 0.821 for CIFAR-10.",
        )
        pretrained = every_steps is not None and extractor != CLASSIFIER
        if at_end or (every_steps is not None and not pretrained):
            check_held_out(dataset)
        self._extractor = find_extractor(extractor) if pretrained else None
        self._comparison: tuple[Reference, Describer] | None = None
        self.every_steps = every_steps
        self.at_end = at_end
        self._num_samples = num_samples
        self._num_images = num_images
        self._dataset = dataset
        self._sampler = sampler
        self._sigma_min = sigma_min
        self._sigma_max = sigma_max
        self._second_sigma = second_sigma
        self._diffusion_sigmas = diffusion_sigmas
        self._scorer: Scorer | None = None

    def scorer(self) -> Scorer:
        """The scorer of the data set, made once."""
        if self._scorer is None:
            say("training the classifier whose features scores are measured in")
            self._scorer = Scorer(self._dataset, num_samples=self._num_samples)
        return self._scorer

    def grids(self, params: Params, second_sigma: float | None = None) -> dict[str, np.ndarray]:
        """Pictures of the first seeds by `schedules`, uint8 [h, w, 3]."""
        return {
            name: image_grid(self._sampler(params, range(self._num_images), sigmas))
            for name, sigmas in self.schedules(second_sigma).items()
        }

    def schedules(self, second_sigma: float | None = None) -> dict[str, tuple[float, ...]]:
        """Noise levels to sample at: `one_step` and `two_step`, or `heun` of a diffusion model."""
        if self._diffusion_sigmas is not None:
            return {"heun": tuple(self._diffusion_sigmas)}
        second_sigma = self._second_sigma if second_sigma is None else second_sigma
        return {"one_step": (self._sigma_max,), "two_step": (self._sigma_max, second_sigma)}

    def real_grid(self) -> np.ndarray:
        """A picture of held-out real images, their classes in turn as in the samples."""
        test = self._dataset.test
        of_class = [np.flatnonzero(test.labels == label) for label in np.unique(test.labels)]
        chosen = []
        for index in range(self._num_images):
            row, column = divmod(index, len(of_class))
            chosen.append(of_class[column][row % len(of_class[column])])
        return image_grid(test.images[chosen])

    @property
    def score_name(self) -> str:
        """Of the score while training."""
        if self._extractor is None:
            return "validation_fd"
        return f"{distance_name(self._extractor.name)}_of_{self._num_samples}"

    def score(self, params: Params) -> float:
        """Fréchet distance of the samples of the first schedule, lower is better.

        The best checkpoint is kept by it.
        """
        seeds, sigmas = range(self._num_samples), next(iter(self.schedules().values()))
        if self._extractor is None:
            return from_main(
                self.scorer().validation_distance(self._sampler(params, seeds, sigmas))
            )
        reference, describer = self._prepared(self._extractor)
        parts = describer(self._sampler.batches(params, seeds, sigmas))
        sums = functools.reduce(MomentSums.merge, (MomentSums.of(p.features) for p in parts))
        return from_main(frechet_distance(sums.moments(), reference.moments))

    def _prepared(self, extractor: Extractor) -> tuple[Reference, Describer]:
        """What samples are compared with, and by, made once."""
        if self._comparison is None:
            mesh = self._sampler.mesh
            reference = reference_of(
                self._dataset.name,
                self._dataset.train,
                extractor,
                mesh,
                told=progress("describing real images, once"),
            )
            self._comparison = reference, Describer(extractor, mesh, self._sampler.batch_size)
        return self._comparison

    def write_scores(
        self, out: epath.Path, params: Params, step: int, *, second_sigma: float | None = None
    ) -> dict[str, Any]:
        """Every score of a model, printed and written to scores.json, with its grids.

        Args:
          out: directory for scores.json, real.png and a picture of each schedule's samples.
          params: averaged parameters.
          step: of the checkpoint, for the record.
          second_sigma: of two-step sampling; default: chosen on the validation split.

        Raises:
          NotSaved: they cannot be written.
        """
        scorer = self.scorer()

        def draw(sigmas: Sequence[float]) -> np.ndarray:
            return self._sampler(params, range(scorer.num_samples), sigmas)

        if second_sigma is None and self._diffusion_sigmas is None:
            second_sigma = choose_second_sigma(
                scorer.validation_distance, draw, self._sigma_max, self._sigma_min
            )
        scores = score_model(scorer, draw, self.schedules(second_sigma))
        scores |= {"step": step}
        if second_sigma is not None:
            scores["second_sigma"] = second_sigma
        pictures = self.grids(params, second_sigma) | {"real": self.real_grid()}
        if is_main():
            write_at_once(out / "scores.json", f"{json.dumps(scores, indent=2)}\n".encode())
            for name, picture in pictures.items():
                save_png(out / f"{name}.png", picture)
        say(table(scores))
        say(f"written in {out}: scores.json, {', '.join(f'{name}.png' for name in pictures)}")
        return scores
