"""Scoring the runs of a table."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evidence import oracle
from experiments.evidence.mixture import MixtureScorer, of_laws
from ict_jax.checkpoints import load_ema
from ict_jax.config.network import build_bind
from ict_jax.config.sampling import build_draw, is_diffusion, karras_levels, sampler_arguments
from ict_jax.config.training import build_dataset
from ict_jax.core.sampling import heun_step
from ict_jax.core.schedules import karras_sigmas
from ict_jax.data import Dataset
from ict_jax.evaluation.held_out import HeldOut
from ict_jax.evaluation.sampler import Sampler
from ict_jax.evaluation.scorer import choose_second_sigma
from ict_jax.training import parallel

NUM_SAMPLES = 5000
OF_IMAGES = 2000
"""Number of samples on 32x32 images, where sampling costs as much as training."""
STEPS = 81
"""Levels of the solver of a diffusion model's ODE."""
DENOISER = "the mean of the data given x"


class HeldOutPools:
    """Scorer of pools of images, uint8 [n, h, w, c], by the protocol held-out."""

    def __init__(self, dataset: Dataset, num_samples: int):
        mesh = parallel.make_mesh(num_devices=1)
        self._held_out = HeldOut(dataset, mesh, num_samples=num_samples)

    def floor(self) -> dict[str, float]:
        """Score data against data."""
        return _flatten(self._held_out.floor())

    def score(self, pool: np.ndarray) -> dict[str, float]:
        """Score a pool."""
        return _flatten(self._held_out.scores(self._held_out.extract(pool)))

    def validation_distance(self, pool: np.ndarray) -> float:
        """Return the distance by which the second level is chosen."""
        return self._held_out.distance(self._held_out.extract(pool))


def _flatten(row: dict[str, Any]) -> dict[str, float]:
    fd, kid = row["fd_classifier"], row["kid"]
    return {
        "fd": fd["value"],
        "fd_std": fd["std_of_splits"],
        "kid": kid["value"],
        "kid_std": kid["std_of_splits"],
        "confident": row["confident"]["value"],
    }


class Judge:
    """Scorer of samples, and of distances to the true consistency function if it is known."""

    def __init__(
        self,
        scorer: HeldOutPools | MixtureScorer,
        truth: oracle.Truth | None = None,
        references: dict[str, dict[str, float]] | None = None,
        num_samples: int = NUM_SAMPLES,
    ):
        """Keep what the scores need.

        Args:
          scorer: scorer of pools of `num_samples`.
          truth: the true consistency function.
          references: distances of other functions to it, by name.
          num_samples: samples to draw.
        """
        self.num_samples = num_samples
        self.scorer = scorer
        self.truth = truth
        self.references = references or {}

    def floor(self) -> dict[str, Any]:
        """Score data against data, and add the references."""
        return {**self.scorer.floor(), "error": self.references}

    def __call__(self, workdir: Path) -> dict[str, Any]:
        """Score the newest checkpoint of a run."""
        loaded = load_ema(workdir)
        config, bind = loaded.config, build_bind(loaded.config)
        mesh = parallel.make_mesh(num_devices=1)
        sampler = Sampler(build_draw(config), mesh, **sampler_arguments(config))

        def draw(sigmas: Any) -> np.ndarray:
            return sampler(loaded.params, range(self.num_samples), sigmas)

        low, high = config.discretization.sigma_min, config.discretization.sigma_max

        @jax.jit
        def f(x: Any, sigma: Any, labels: Any) -> Any:
            return bind(loaded.params, labels, None)(x, sigma)

        def flow(x: Any, sigma: Any, labels: Any) -> Any:
            """Solve a diffusion model's own ODE."""
            levels = karras_sigmas(STEPS, sigma_min=low, sigma_max=float(sigma[0]))[::-1]
            for level, following in itertools.pairwise(levels):
                levels = (jnp.full_like(sigma, each) for each in (level, following))
                x = heun_step(lambda x, sigma: f(x, sigma, labels), x, *levels)
            return x

        if is_diffusion(config):
            scores = self.scorer.score(draw(karras_levels(config, None)))
            return {"heun": scores, **self._errors(flow)}
        second = choose_second_sigma(
            lambda sigmas: self.scorer.validation_distance(draw(sigmas)), high, low
        )
        return {
            "one_step": self.scorer.score(draw((high,))),
            "two_step": self.scorer.score(draw((high, second))),
            "second_sigma": second,
            **self._errors(f),
        }

    def _errors(self, f: Any) -> dict[str, Any]:
        return {} if self.truth is None else {"error": oracle.errors(f, self.truth)}


def of_digits(config: Any, place: Path) -> Judge:
    """Train the classifier, and solve the ODE of the training images."""
    dataset = build_dataset(config)
    truth = oracle.truth(dataset, place / "truth.npz")
    references = {DENOISER: oracle.denoiser_errors(dataset, truth)}
    return Judge(HeldOutPools(dataset, NUM_SAMPLES), truth, references)


def of_images(config: Any, place: Path) -> Judge:
    """Train the classifier."""
    scorer = HeldOutPools(build_dataset(config), OF_IMAGES)
    return Judge(scorer, num_samples=OF_IMAGES)


def of_mixture(config: Any, place: Path) -> Judge:
    """Solve the ODE of the training points."""
    scorer = MixtureScorer()
    truth = oracle.truth(scorer.dataset, place / "truth_of_mixture.npz", examples=200)
    references = {
        DENOISER: oracle.denoiser_errors(scorer.dataset, truth),
        "the true function of the eight laws": oracle.errors(of_laws, truth),
    }
    return Judge(scorer, truth, references)
