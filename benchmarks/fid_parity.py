"""Compare the features of our Inception and of torch-fidelity's, on random or published weights.

  .venv/bin/pip install -c constraints.txt -e '.[parity]'
  .venv/bin/pip install --no-deps torch-fidelity==0.4.0
  .venv/bin/python benchmarks/fid_parity.py --seed=0
  .venv/bin/python benchmarks/fid_parity.py --weights=weights-inception-2015-12-05-6726825d.pth

`--no-deps`, since torch-fidelity requires torchvision, which brings a PyTorch of several gigabytes;
the network does not need it, and an empty module replaces it here. Random images of several sizes
go through both networks in float32. The output is the largest difference at each tap, relative to
the largest value of torch-fidelity's; any above 1e-4 ends the command with 1. Random weights show
that the networks and their resizing agree; only the published file (--weights) can show that it is
read correctly.
"""

import argparse
import importlib.machinery
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import numpy as np

from ict_jax.evaluation.extractors.inception import inception_extractor, inception_taps
from ict_jax.evaluation.extractors.inception_layers import inception_shapes

TAPS = ("64", "192", "768", "2048", "logits_unbiased", "logits")
TOLERANCE = 1e-4


def main() -> int:
    """Compare and print; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default=0, type=int, help="seed of weights and images")
    parser.add_argument(
        "--sizes", default=[32, 64, 96], type=int, nargs="+", help="sizes of the images"
    )
    parser.add_argument("--images", default=4, type=int, help="images of each size")
    parser.add_argument("--weights", type=Path, help="the published file instead of random weights")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_CACHE_HOME"] = directory  # keeps the random weights out of the cache
        path = arguments.weights or save(random_weights(rng), Path(directory) / "random.pth")
        ours = inception_extractor(path, check=arguments.weights is not None)
        theirs = load_theirs(path)
    print(f"weights: {arguments.weights or f'random, seed {arguments.seed}'}, {ours.digest[:8]}")
    print("size", *(f"{tap:>15}" for tap in TAPS))
    worst = 0.0
    for size in arguments.sizes:
        images = rng.integers(0, 256, (arguments.images, size, size, 3), dtype=np.uint8)
        differences = compare(ours.weights, theirs, images)
        print(f"{size:4}", *(f"{differences[tap]:15.1e}" for tap in TAPS), flush=True)
        worst = max(worst, *differences.values())
    agree = worst <= TOLERANCE
    print(f"largest {worst:.1e}: {'within' if agree else 'ABOVE'} {TOLERANCE:.0e}")
    return 0 if agree else 1


def random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw weights that keep activations near one, named as in the published file."""
    weights = {}
    for name, shape in inception_shapes().items():
        if name.endswith("running_var"):
            array = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bn.weight"):
            array = rng.uniform(0.7, 1.3, shape)
        elif len(shape) == 1:
            array = 0.1 * rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = array.astype(np.float32)
    return weights


def save(weights: dict[str, np.ndarray], path: Path) -> Path:
    """Write a PyTorch file."""
    import torch  # pyright: ignore[reportMissingImports]

    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    for name in weights:
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            state[counter] = torch.tensor(0)
    torch.save(state, path)
    return path


def load_theirs(path: Path) -> Any:
    """Load torch-fidelity's network with the weights in a file."""
    for name in ("", ".models", ".transforms", ".transforms.functional", ".datasets"):
        stub = MagicMock()
        stub.__spec__ = importlib.machinery.ModuleSpec(f"torchvision{name}", None)
        sys.modules.setdefault(f"torchvision{name}", stub)
    from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
        FeatureExtractorInceptionV3,
    )

    return FeatureExtractorInceptionV3(
        "inception-v3-compat", list(TAPS), feature_extractor_weights_path=str(path)
    )


def compare(weights: Any, theirs: Any, images: np.ndarray) -> dict[str, float]:
    """Return the largest difference at each tap relative to its largest value.

    Args:
      weights: weights of our network.
      theirs: torch-fidelity's network.
      images: uint8 [b, h, w, 3].
    """
    import torch  # pyright: ignore[reportMissingImports]

    ours = jax.jit(inception_taps)(weights, jnp.asarray(images))
    with torch.no_grad():
        taps = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    expected = {tap: value.numpy() for tap, value in zip(TAPS, taps, strict=True)}
    return {
        tap: float(np.abs(np.asarray(ours[tap]) - value).max() / np.abs(value).max())
        for tap, value in expected.items()
    }


if __name__ == "__main__":
    sys.exit(main())
