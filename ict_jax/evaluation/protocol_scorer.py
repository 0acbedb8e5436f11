"""Scores by protocol: many samples, drawn and described in one program on all devices."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from jax.sharding import Mesh

from ict_jax.data import ImageSet
from ict_jax.evaluation.extractors import Extractor
from ict_jax.evaluation.features import (
    Collected,
    Describer,
    as_npz,
    collect_samples,
    draw_and_extract,
    image_batches,
    joined,
)
from ict_jax.evaluation.measure import distance_name, measure
from ict_jax.evaluation.metrics.frechet import frechet_distance, moments
from ict_jax.evaluation.references import Reference
from ict_jax.evaluation.sampler import Sampler
from ict_jax.runtime.console import progress
from ict_jax.runtime.processes import is_main, wait_for_all
from ict_jax.runtime.storage import write_at_once
from ict_jax.training.parallel import fingerprint_of
from ict_jax.training.state import Params


class ProtocolScorer:
    """Scores one model by a protocol; what it has drawn it keeps until it is told to clear."""

    def __init__(
        self,
        extractor: Extractor,
        reference: Reference,
        draw: Callable[..., Any],
        mesh: Mesh,
        params: Params,
        *,
        seeds: range,
        labels: np.ndarray | None,
        directory: epath.Path,
        batch_size: int,
        keep_images: bool = False,
        **sampler_arguments: Any,
    ):
        """Prepares; nothing is compiled or drawn yet.

        Args:
          extractor: of the features.
          reference: described by the same.
          draw: `draw(params, keys, labels, sigmas)` -> images in [-1, 1].
          mesh: devices that share the work.
          params: averaged parameters.
          seeds: one per image.
          labels: one class per seed; None: as the sampler does.
          directory: for what is drawn; a directory in it for each set of samples.
          batch_size: images drawn at once.
          keep_images: whether the images are kept too.
          **sampler_arguments: as `Sampler` takes them.
        """
        self.extractor, self.reference = extractor, reference
        self._seeds, self._labels, self._keep_images = seeds, labels, keep_images
        self._directory, self._params, self._mesh = directory, params, mesh
        self._sampler = Sampler(
            draw_and_extract(draw, extractor), mesh, **sampler_arguments, batch_size=batch_size
        )
        self._batch_size = batch_size
        self._identity = {
            "params": fingerprint_of(params),
            "extractor": extractor.digest,
            "reference": reference.digest,
            "seeds": [seeds.start, seeds.stop],
            "labels": None if labels is None else hashlib.sha256(labels.tobytes()).hexdigest(),
            "images": keep_images,
        }

    def key(self, sigmas: Sequence[float]) -> str:
        """What the samples at these noise levels, and their scores, are kept by."""
        identity = json.dumps({**self._identity, "sigmas": list(sigmas)})
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def samples(self, sigmas: Sequence[float]) -> Collected:
        """Draws and describes, or reads what an earlier, interrupted run has drawn."""
        parts = collect_samples(
            self._sampler,
            self._params,
            self.extractor,
            self._seeds,
            sigmas,
            self._labels,
            directory=self._directory / self.key(sigmas),
            keep_images=self._keep_images,
            told=progress(f"samples at {list(sigmas)}"),
        )
        return joined(parts)

    def distance(self, sigmas: Sequence[float]) -> float:
        """The Fréchet distance alone, as for a search; the samples are not kept."""
        found = frechet_distance(moments(self.samples(sigmas).features), self.reference.moments)
        self.clear(sigmas)
        return found

    def scores(self, sigmas: Sequence[float]) -> dict[str, Any]:
        """Every score of the samples at these noise levels."""
        return measure(self.samples(sigmas), self.reference, self.extractor.name)

    def floor(self, held_out: ImageSet) -> dict[str, Any]:
        """Every score of real images that are not in the reference."""
        n = min(len(self._seeds), held_out.size)
        batches = image_batches(held_out, np.arange(n), self._batch_size)
        described = joined(list(Describer(self.extractor, self._mesh, self._batch_size)(batches)))
        return measure(described, self.reference, self.extractor.name)

    def distance_of_first(self, sigmas: Sequence[float], n: int) -> float:
        """The Fréchet distance of the first n samples, beside a floor of as many images."""
        features = self.samples(sigmas).features[:n]
        return frechet_distance(moments(features), self.reference.moments)

    def save_images(self, sigmas: Sequence[float], path: epath.Path) -> None:
        """Writes the images, which must have been kept, as `arr_0` of an .npz, as ADM does.

        To be called in all processes.
        """
        images: Any = self.samples(sigmas).images
        if is_main():
            write_at_once(path, as_npz({"arr_0": images}))

    def clear(self, sigmas: Sequence[float]) -> None:
        """Removes what was kept of the samples at these noise levels."""
        wait_for_all("samples are used")
        if is_main():
            (self._directory / self.key(sigmas)).rmtree(missing_ok=True)
        wait_for_all("samples are removed")


def table(scores: dict[str, Any], extractor: str) -> str:
    """The scores of all sets of samples as a table to print.

    Args:
      scores: by the name of the set, as `measure` gives them.
      extractor: its name.
    """
    columns = [distance_name(extractor), "kid", "inception_score", "precision", "recall"]
    columns = [name for name in columns if any(name in row for row in scores.values())]
    lines = [f"{'':12} {'n':>7} " + " ".join(f"{name:>22}" for name in columns)]
    for name, row in scores.items():
        cells = []
        for column in columns:
            score = row.get(column)
            if score is None:
                cells.append(f"{'':>22}")
                continue
            spread = score.get("standard_error", score.get("std_of_splits"))
            cells.append(f"{score['value']:>12.4f} +- {spread:6.4f}")
        lines.append(f"{name:12} {row['n']:>7,} " + " ".join(cells))
    return "\n".join(lines)
