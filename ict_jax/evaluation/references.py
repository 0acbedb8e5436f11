"""Statistics of the real images that samples are compared with, cached by content."""

import hashlib
import zipfile
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data import Examples
from ict_jax.evaluation.features import (
    FeatureExtractor,
    content_hash,
    encode_npz,
    image_batches,
    read_npz,
)
from ict_jax.evaluation.metrics.frechet import Moments, MomentSums
from ict_jax.runtime.console import best_effort, progress_reporter
from ict_jax.runtime.processes import all_processes
from ict_jax.runtime.storage import cache_directory, to_path, write_atomically

MAX_FEATURES = 10_000
"""Real images whose features are kept, for kernel distance, precision and recall."""

BATCH_SIZE = 256


class Reference(NamedTuple):
    """Real images in the features of an extractor.

    Attributes:
      name: name of the set or file.
      digest: SHA-256 of its images, or of the file.
      size: number of images behind the moments; None if a file does not say.
      moments: moments of all their features.
      features: features of at most `MAX_FEATURES` of them, at random (NumPy seed 0).
      extract: computes the same features of other images.
    """

    name: str
    digest: str
    size: int | None
    moments: Moments
    features: Float[np.ndarray, "m d"]
    extract: FeatureExtractor


def compute_reference(name: str, data: Examples, extract: FeatureExtractor) -> Reference:
    """Compute the statistics of all images of a set, once for the same images and extractor.

    They are kept in `cache_directory("references")`, by hashes of images and weights.

    Raises:
      ArgumentError: there are fewer than two images.
    """
    require(
        data.size >= 2,
        f"{name} has {data.size} images to compare with, expected at least two; add images.",
    )
    digest, extractor = content_hash(data), extract.extractor
    file_name = f"{digest[:16]}_{extractor.name}_{extractor.digest[:16]}.npz"
    path = to_path(cache_directory("references") / file_name)
    arrays = read_npz(path, {"mean", "covariance", "features"})
    in_all = all_processes(arrays is not None)  # otherwise all take part in computing it
    if arrays is None or not in_all:
        arrays = _compute(data, extract)
        # By every process: each host has a cache of its own.
        with best_effort(f"statistics of the reference, {path},"):
            write_atomically(path, encode_npz(arrays))
    moments = Moments(arrays["mean"], arrays["covariance"])
    return Reference(name, digest, data.size, moments, arrays["features"], extract)


def _choose_kept(size: int) -> np.ndarray:
    """Choose the images whose features are kept, ascending."""
    return np.sort(np.random.default_rng(0).permutation(size)[:MAX_FEATURES])


def _compute(data: Examples, extract: FeatureExtractor) -> dict[str, np.ndarray]:
    chosen = np.isin(np.arange(data.size), _choose_kept(data.size))
    on_progress = progress_reporter("features of real images")
    sums, kept, done = None, [], 0
    for images in image_batches(data, BATCH_SIZE):
        features = extract(images).features
        part = MomentSums.of(features)
        sums = part if sums is None else sums.merge(part)
        kept.append(features[chosen[done : done + len(features)]])
        done += len(features)
        on_progress(done, data.size)
    assert sums is not None
    return {**sums.moments()._asdict(), "features": np.concatenate(kept)}


def read_reference(
    path: str, extract: FeatureExtractor, image_shape: tuple[int, int, int]
) -> Reference:
    """Read statistics `mu`, `sigma` and images `arr_0` from a file in ADM's evaluation format.

    The extractor must be the network behind the statistics, Inception.

    Raises:
      ArgumentError: there is no such file, or its format differs.
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
                mean, covariance, images = (arrays[name] for name in ("mu", "sigma", "arr_0"))
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
    features = extract(images[_choose_kept(len(images))]).features
    d = features.shape[1]
    require(
        mean.shape == (d,) and covariance.shape == (d, d),
        f"--reference={path} has statistics of {mean.shape} and {covariance.shape}, expected "
        f"({d},) and ({d}, {d}), the features of {extract.extractor.name}; use its own file.",
    )
    moments = Moments(mean.astype(np.float64), covariance.astype(np.float64))
    return Reference(file.name, digest.hexdigest(), None, moments, features, extract)
