"""Scores of one model's samples: drawn by seed, compared with real images."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ict_jax.core.errors import require
from ict_jax.evaluation.against_set import AgainstSet
from ict_jax.evaluation.features import Collected, concatenate, encode_npz, read_npz
from ict_jax.evaluation.held_out import HeldOut
from ict_jax.evaluation.sampler import Sampler
from ict_jax.runtime.console import progress_reporter
from ict_jax.runtime.processes import all_processes, broadcast_from_main, is_main, wait_for_all
from ict_jax.runtime.storage import write_atomically
from ict_jax.training.parallel import fingerprint_of
from ict_jax.training.state import Params

PARTS = 10
"""Files in which samples are kept; an interruption costs at most the part being drawn."""

Comparison = AgainstSet | HeldOut


class Scorer:
    """Samples of one model, and their comparison with real images."""

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
        """Store the arguments; nothing is compiled or drawn yet.

        Args:
          sampler: draws the model's images.
          params: EMA parameters.
          comparison: comparison with real images.
          seeds: one per image.
          labels: one class per seed; None: the sampler's default.
          directory: keeps samples until `clear`, in a directory for each schedule; None: nothing
            is kept.
          keep_images: whether the images are kept too.
        """
        self.comparison, self.seeds, self.labels = comparison, seeds, labels
        self._sampler, self._params, self._directory = sampler, params, directory
        self._keep_images = keep_images or comparison.needs_images

    def key(self, sigmas: Sequence[float]) -> str:
        """Return a hash that identifies the samples at these noise levels, and their scores."""
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
        """Draw samples and extract their features, in `PARTS` parts that are each kept in a file.

        Parts that an interrupted run left are read; damaged ones are drawn again.

        Raises:
          Diverged: a sample is not finite.
          NotSaved: a part cannot be written.
        """
        count, on_progress = len(self.seeds), progress_reporter(f"samples at {list(sigmas)}")

        def draw(start: int, stop: int) -> Collected:
            drawn, done = [], start
            for images in self._batches(sigmas, start, stop):
                found = self.comparison.extract(images)
                drawn.append(found if self._keep_images else found._replace(images=None))
                done += len(images)
                on_progress(done, count)
            return concatenate(drawn)

        if self._directory is None:
            return draw(0, count)
        directory = self._directory / self.key(sigmas)
        edges = np.unique(np.linspace(0, count, PARTS + 1).astype(int)).tolist()
        parts = []
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            path = directory / f"part_{number}.npz"
            part = self._read_part(path, stop - start)
            in_all = all_processes(part is not None)  # otherwise all take part in drawing it
            if part is None or not in_all:
                part = draw(start, stop)
                if is_main():
                    arrays = {k: v for k, v in part._asdict().items() if v is not None}
                    write_atomically(path, encode_npz(arrays))
                wait_for_all("part of the samples")
            parts.append(part)
        return concatenate(parts)

    def _read_part(self, path: epath.Path, count: int) -> Collected | None:
        names = {"features", "logits", *(["images"] if self._keep_images else [])}
        arrays = read_npz(path, names, optional={"logits"})
        if arrays is None or len(arrays["features"]) != count:
            return None
        return Collected(**arrays)

    def _batches(
        self, sigmas: Sequence[float], start: int, stop: int
    ) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
        labels = None if self.labels is None else self.labels[start:stop]
        return self._sampler.batches(self._params, self.seeds[start:stop], sigmas, labels)

    def distance(self, sigmas: Sequence[float]) -> float:
        """Compute the distance alone, as for a search, without keeping the samples."""
        found = self.comparison.distance(self.samples(sigmas))
        self.clear(sigmas)
        return found

    def scores(self, schedules: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
        """Compute all scores of the samples of each schedule, and of the baselines, by name."""
        scores = {
            name: {"sigmas": list(sigmas), **self.comparison.scores(self.samples(sigmas))}
            for name, sigmas in schedules.items()
        }
        return scores | self.comparison.baselines()

    def first_images(self, sigmas: Sequence[float], count: int) -> UInt8[np.ndarray, "n h w c"]:
        """Draw the samples of the first seeds, for a grid."""
        return np.concatenate(list(self._batches(sigmas, 0, count)))

    def save_images(self, sigmas: Sequence[float], path: epath.Path) -> None:
        """Write the kept images as `arr_0` of an .npz, as ADM does; call in all processes."""
        images: Any = self.samples(sigmas).images
        if is_main():
            write_atomically(path, encode_npz({"arr_0": images}))

    def clear(self, sigmas: Sequence[float]) -> None:
        """Remove the samples kept at these noise levels."""
        if self._directory is None:
            return
        wait_for_all("samples are used")
        if is_main():
            (self._directory / self.key(sigmas)).rmtree(missing_ok=True)
        wait_for_all("samples are removed")


def choose_second_sigma(
    distance: Callable[[Sequence[float]], float], sigma_max: float, sigma_min: float
) -> float:
    """Choose the second noise level of two-step sampling that minimizes the samples' distance.

    The candidates are those of 16 levels, equally spaced in log sigma from 0.1 to 20, that lie
    between sigma_min and sigma_max.
    """
    candidates = [float(s) for s in np.geomspace(0.1, 20, 16).round(3) if sigma_min < s < sigma_max]
    require(
        bool(candidates),
        f"no candidate between 0.1 and 20 lies in ({sigma_min}, {sigma_max}); give --second_sigma.",
    )
    distances = [distance((sigma_max, s)) for s in candidates]
    return candidates[int(broadcast_from_main(int(np.argmin(distances))))]
