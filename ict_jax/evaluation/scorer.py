"""Scores of one model's samples: drawn by seed, compared with real images."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ict_jax.core.errors import require
from ict_jax.evaluation.features import Collected, FeatureExtractor, as_npz, collect_samples
from ict_jax.evaluation.sampler import Sampler
from ict_jax.runtime.console import progress
from ict_jax.runtime.processes import broadcast_from_main, is_main, wait_for_all
from ict_jax.runtime.storage import write_at_once
from ict_jax.training.parallel import fingerprint_of
from ict_jax.training.state import Params


class Comparison(Protocol):
    """Real images that samples are compared with, in the features of an extractor."""

    @property
    def extract(self) -> FeatureExtractor:
        """Computes the features."""
        ...

    @property
    def needs_images(self) -> bool:
        """Whether scores need the samples themselves, beside their features."""
        ...

    def record(self) -> dict[str, Any]:
        """What makes scores comparable, for the results."""
        ...

    def distance(self, samples: Collected) -> float:
        """By which models and noise levels are chosen; lower is better."""
        ...

    def scores(self, samples: Collected) -> dict[str, Any]:
        """All scores of samples."""
        ...

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Scores of other images than samples, the floor among them, by name."""
        ...


class Scorer:
    """Draw the samples of one model and compare them."""

    def __init__(
        self,
        sampler: Sampler,
        params: Params,
        comparison: Comparison,
        seeds: range,
        labels: np.ndarray | None = None,
        *,
        directory: epath.Path | None = None,
        keep_images: bool = False,
    ):
        """Prepare; nothing is compiled or drawn yet.

        Args:
          sampler: of the model.
          params: EMA parameters.
          comparison: with real images.
          seeds: one per image.
          labels: one class per seed; None: as the sampler does.
          directory: keeps what is drawn, in a directory for each schedule, until it is told to
            clear; None: nothing is kept.
          keep_images: whether the images are kept too.
        """
        self.comparison, self.seeds, self.labels = comparison, seeds, labels
        self._sampler, self._params, self._directory = sampler, params, directory
        self._keep_images = keep_images or comparison.needs_images

    def key(self, sigmas: Sequence[float]) -> str:
        """Identifies the samples at these noise levels, and their scores."""
        record, labels = self.comparison.record(), self.labels
        identity = {
            "params": fingerprint_of(self._params),
            "extractor": record["extractor"]["sha256"],
            "reference": record["reference"]["sha256"],
            "seeds": [self.seeds.start, self.seeds.stop],
            "labels": None if labels is None else hashlib.sha256(labels.tobytes()).hexdigest(),
            "images": self._keep_images,
            "sigmas": list(sigmas),
        }
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    def samples(self, sigmas: Sequence[float]) -> Collected:
        """Draw samples and extract their features, or read what an interrupted run has drawn."""

        def batches(start: int, stop: int) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
            labels = None if self.labels is None else self.labels[start:stop]
            return self._sampler.batches(self._params, self.seeds[start:stop], sigmas, labels)

        return collect_samples(
            batches,
            self.comparison.extract,
            len(self.seeds),
            directory=None if self._directory is None else self._directory / self.key(sigmas),
            keep_images=self._keep_images,
            on_progress=progress(f"samples at {list(sigmas)}"),
        )

    def distance(self, sigmas: Sequence[float]) -> float:
        """The distance alone, as for a search; the samples are not kept."""
        found = self.comparison.distance(self.samples(sigmas))
        self.clear(sigmas)
        return found

    def scores(self, schedules: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
        """All scores of the samples of each schedule, and of the baselines, by name."""
        scores = {
            name: {"sigmas": list(sigmas), **self.comparison.scores(self.samples(sigmas))}
            for name, sigmas in schedules.items()
        }
        return scores | self.comparison.baselines()

    def first_images(self, sigmas: Sequence[float], count: int) -> UInt8[np.ndarray, "n h w c"]:
        """Samples of the first seeds, for a grid."""
        labels = None if self.labels is None else self.labels[:count]
        drawn = self._sampler.batches(self._params, self.seeds[:count], sigmas, labels)
        return np.concatenate(list(drawn))

    def save_images(self, sigmas: Sequence[float], path: epath.Path) -> None:
        """Write the images, which must have been kept, as `arr_0` of an .npz, as ADM does.

        To be called in all processes.
        """
        images: Any = self.samples(sigmas).images
        if is_main():
            write_at_once(path, as_npz({"arr_0": images}))

    def clear(self, sigmas: Sequence[float]) -> None:
        """Remove what was kept of the samples at these noise levels."""
        if self._directory is None:
            return
        wait_for_all("samples are used")
        if is_main():
            (self._directory / self.key(sigmas)).rmtree(missing_ok=True)
        wait_for_all("samples are removed")


def choose_second_sigma(
    distance: Callable[[Sequence[float]], float], sigma_max: float, sigma_min: float
) -> float:
    """The second noise level of two-step sampling with the least distance of its samples.

    Searched on 16 levels, equal steps apart in log sigma between 0.1 and 20 (where these lie
    within the model's range).

    Args:
      distance: of the samples at noise levels.
      sigma_max: the first level.
      sigma_min: below all candidates.
    """
    candidates = [float(s) for s in np.geomspace(0.1, 20, 16).round(3) if sigma_min < s < sigma_max]
    require(
        bool(candidates),
        f"no candidate between 0.1 and 20 lies in ({sigma_min}, {sigma_max}); give --second_sigma.",
    )
    distances = [distance((sigma_max, s)) for s in candidates]
    return candidates[int(broadcast_from_main(int(np.argmin(distances))))]
