"""Measure the parts of an evaluation by protocol: sampling, features, statistics.

  python -m benchmarks.evaluation_speed --checkpoint=runs/fashion
  python -m benchmarks.evaluation_speed --checkpoint=runs/fashion --extractor=inception

The FID network has random weights, which are as fast as the published ones. Sampling and features
are timed separately, in images/s; the statistics are those of n samples against as many real
images, in seconds for each score.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fid_parity import random_weights
from ict_jax.checkpoints import load_ema
from ict_jax.config.sampling import build_draw, sampler_arguments
from ict_jax.evaluation.extractors import Extractor, find_extractor
from ict_jax.evaluation.extractors.inception import extract as apply_inception
from ict_jax.evaluation.extractors.inception import fold_inception
from ict_jax.evaluation.features import FeatureExtractor
from ict_jax.evaluation.metrics.frechet import frechet_distance, frechet_standard_error, moments
from ict_jax.evaluation.metrics.inception_score import inception_score
from ict_jax.evaluation.metrics.kid import kid
from ict_jax.evaluation.metrics.precision_recall import precision_recall
from ict_jax.evaluation.sampler import Sampler
from ict_jax.training.parallel import make_mesh


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint of a consistency model")
    parser.add_argument("--extractor", default="lite0", choices=("lite0", "inception"))
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument(
        "--batches", type=int, default=3, help="timed batches, after one that compiles"
    )
    parser.add_argument("--n", type=int, default=5000, help="images in the statistics")
    arguments = parser.parse_args()
    params, config, _ = load_ema(arguments.checkpoint)
    inception = arguments.extractor == "inception"
    extractor = random_inception() if inception else find_extractor("lite0")
    draw = build_draw(config)
    options = sampler_arguments(config) | {"batch_size": arguments.batch_size}
    count = arguments.batch_size * arguments.batches
    seeds, sigmas = range(count), (config.discretization.sigma_max,)

    sampler = Sampler(draw, make_mesh(), **options)
    next(sampler.batches(params, seeds, sigmas))
    secs = timed(lambda: list(sampler.batches(params, seeds, sigmas)))
    print(f"{'sampling, one step':34} {count / secs:9.1f} images/s")
    images = np.zeros((count, *config.image_shape), np.uint8)
    extract = FeatureExtractor(extractor, make_mesh(), arguments.batch_size)
    size = extract(images[: arguments.batch_size]).features.shape[-1]
    secs = timed(lambda: extract(images))
    print(f"{'features of ' + extractor.name:34} {count / secs:9.1f} images/s")
    statistics(arguments.n, size)


def statistics(n: int, size: int) -> None:
    """Print the seconds for each score of n rows of features."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, size)).astype(np.float32) for _ in range(2))
    moments_a, moments_b = moments(a), moments(b)
    for name, score in {
        "mean and covariance": lambda: moments(a),
        "Fréchet distance": lambda: frechet_distance(moments_a, moments_b),
        "its standard error": lambda: frechet_standard_error(a, moments_a, moments_b),
        "KID, 100 subsets of 1,000": lambda: kid(a, b, size=min(1000, n // 2)),
        "precision and recall": lambda: precision_recall(b, a),
        "Inception Score": lambda: inception_score(a[:, :1008]),
    }.items():
        print(f"{f'{name} of {n:,} x {size:,}':48} {timed(score):7.1f} s")


def random_inception() -> Extractor:
    """Return the FID network with random weights."""
    weights = fold_inception(random_weights(np.random.default_rng(0)))
    return Extractor(
        "random inception", jax.tree.map(jnp.asarray, weights), apply_inception, "none"
    )


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a function takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
