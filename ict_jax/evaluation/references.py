"""What samples are compared with: moments and features of real images, kept by their content."""

import hashlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data import Examples
from ict_jax.evaluation.features import (
    FeatureExtractor,
    as_npz,
    content_hash,
    image_batches,
    read_npz,
)
from ict_jax.evaluation.metrics.frechet import Moments, MomentSums
from ict_jax.runtime.console import not_essential
from ict_jax.runtime.processes import all_processes
from ict_jax.runtime.storage import cache_directory, to_path, write_at_once

MOST_FEATURES = 10_000
"""Real images whose features are kept, for kernel distance, precision and recall."""

BATCH = 256


class Reference(NamedTuple):
    """Real images in the features of an extractor.

    Attributes:
      name: of the set, or of the file.
      digest: SHA-256 of its images, or of the file.
      size: how many images the moments are of; None where a file does not say.
      moments: of all their features.
      features: of at most `MOST_FEATURES` of them, at random (NumPy seed 0).
      extract: computes the same features of other images.
    """

    name: str
    digest: str
    size: int | None
    moments: Moments
    features: Float[np.ndarray, "m d"]
    extract: FeatureExtractor


def reference_of(
    name: str,
    data: Examples,
    extract: FeatureExtractor,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reference:
    """Statistics of all images of a set, computed once for the same images and extractor.

    What was computed is kept in `cache_directory("references")`, by hashes of images and weights.

    Args:
      name: of the set.
      data: the images.
      extract: computes the features.
      on_progress: called with how many are done, and of how many.

    Raises:
      ArgumentError: there are fewer than two images.
    """
    require(
        data.size >= 2,
        f"{name} has {data.size} images to compare with, expected at least two; add images.",
    )
    digest, extractor = content_hash(data), extract.extractor
    name_of_file = f"{digest[:16]}_{extract.extractor.name}_{extractor.digest[:16]}.npz"
    path = to_path(cache_directory("references") / name_of_file)
    found = _read(path)
    there = all_processes(found is not None)  # otherwise all take part in computing it
    if found is None or not there:
        found = _compute(data, extract, on_progress)
        _write(path, found)
    moments, features = found
    return Reference(name, digest, data.size, moments, features, extract)


def _compute(
    data: Examples, extract: FeatureExtractor, on_progress: Callable[[int, int], None]
) -> tuple[Moments, np.ndarray]:
    chosen = np.zeros(data.size, bool)
    chosen[np.random.default_rng(0).permutation(data.size)[:MOST_FEATURES]] = True
    sums, kept, done = None, [], 0
    for images in image_batches(data, np.arange(data.size), BATCH):
        features = extract(images).features
        own = MomentSums.of(features)
        sums = own if sums is None else sums.merge(own)
        kept.append(features[chosen[done : done + len(features)]])
        done += len(features)
        on_progress(done, data.size)
    assert sums is not None
    return sums.moments(), np.concatenate(kept)


def _write(path: epath.Path, found: tuple[Moments, np.ndarray]) -> None:
    """By each process, for hosts have caches of their own."""
    moments, features = found
    with not_essential(f"statistics of the reference, {path},"):
        write_at_once(path, as_npz({**moments._asdict(), "features": features}))


def _read(path: epath.Path) -> tuple[Moments, np.ndarray] | None:
    """None if it is not there or cannot be read."""
    arrays = read_npz(path, {"mean", "covariance", "features"})
    if arrays is None:
        return None
    return Moments(arrays["mean"], arrays["covariance"]), arrays["features"]


def reference_of_file(
    path: str, extract: FeatureExtractor, image_shape: tuple[int, int, int]
) -> Reference:
    """Statistics `mu` and `sigma` and images `arr_0` of a file in the format of ADM's evaluation.

    Args:
      path: of the .npz.
      extract: computes features of the Inception network, of which the statistics are.
      image_shape: that the images must have.

    Raises:
      ArgumentError: there is no such file, or it is not in the format.
    """
    file = to_path(path)
    require(
        file.is_file(),
        f"--reference={path} is not a file; give OpenAI's VIRTUAL_imagenet64_labeled.npz "
        "(github.com/openai/guided-diffusion, evaluations).",
    )
    try:
        with file.open("rb") as opened:
            digest = hashlib.sha256()
            while block := opened.read(2**20):
                digest.update(block)
            opened.seek(0)
            with np.load(opened) as arrays:
                mean, covariance = arrays["mu"], arrays["sigma"]
                images = arrays["arr_0"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArgumentError(
            f"--reference={path} is not a reference file ({error}); it must be an .npz with the "
            "arrays mu, sigma and arr_0."
        ) from error
    require(
        images.dtype == np.uint8 and images.shape[1:] == image_shape and len(images) >= 2,
        f"--reference={path} holds images {images.shape} of {images.dtype}, expected uint8 "
        f"[n, {', '.join(map(str, image_shape))}]; use the file for this resolution.",
    )
    chosen = images[np.sort(np.random.default_rng(0).permutation(len(images))[:MOST_FEATURES])]
    features = extract(chosen).features
    d = features.shape[1]
    require(
        mean.shape == (d,) and covariance.shape == (d, d),
        f"--reference={path} has statistics of {mean.shape} and {covariance.shape}, expected "
        f"({d},) and ({d}, {d}), the features of {extract.extractor.name}; use its own file.",
    )
    moments = Moments(mean.astype(np.float64), covariance.astype(np.float64))
    return Reference(file.name, digest.hexdigest(), None, moments, features, extract)
