"""Measure the images per second of the data pipeline, from device memory or read ahead.

  python benchmarks/data_speed.py

The images are synthetic and as large as real ones, since speed does not depend on what they show:
smooth colours with a little noise, which PNG compresses to about 9 kB at 64x64, like photographs.
`in memory` reads ahead from an array, `on disk` from a set as `ict_jax.cli.prepare` writes it;
`held` only takes batches from an array on the device inside a jitted step. Images per core-second
are per second of processor time of all threads.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from ict_jax.data import Batches, Examples, ImageSet, load_data, prepare
from ict_jax.run.feed import feed, make_take
from ict_jax.training import parallel

# Image size, batch size, and the images/s of one TPU v5e chip at an MFU of 40% (peak 197 TFLOP/s),
# by the FLOPs per image of `train --dry_run`: cifar10_ict 1.698e11, imagenet64_ict 8.771e11.
SETS = {
    "CIFAR-10": (32, 1024, 0.4 * 197e12 / 1.698e11),
    "ImageNet 64x64": (64, 4096, 0.4 * 197e12 / 8.771e11),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default=8192, type=int, help="in each set")
    parser.add_argument("--secs", default=10.0, type=float, help="for each measurement")
    parser.add_argument("--read_threads", default=[1, 2, 4, 8], type=int, nargs="+")
    arguments = parser.parse_args()
    print(f"{'set':15} {'from':10} threads  images/s  per core-second  v5e chips fed")
    for name, (size, batch_size, chip_rate) in SETS.items():
        pixels = make_images(arguments.images, size)
        labels = np.zeros(len(pixels), np.int32)
        memory = ImageSet(pixels, labels)
        with tempfile.TemporaryDirectory() as directory:
            disk = store(pixels, Path(directory))
            cases = [("held", memory, 1), ("in memory", memory, 1)]
            cases += itertools.product(["on disk"], [disk], arguments.read_threads)
            for where, data, threads in cases:
                held = where == "held"
                batches = Batches(data, batch_size, 0, on_device=held, read_threads=threads)
                rate, per_core = measure(batches, arguments.secs)
                print(
                    f"{name:15} {where:10} {'-' if held else threads:>7} {rate:9,.0f} "
                    f"{per_core:16,.0f} {rate / chip_rate:14,.0f}",
                    flush=True,
                )


def make_images(count: int, size: int) -> np.ndarray:
    """Draw smooth colours with noise, uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 8, size // 8, 3), np.uint8)
    shape = (size, size)
    smooth = [Image.fromarray(c).resize(shape, Image.Resampling.BICUBIC) for c in coarse]
    noisy = np.stack(smooth) + rng.integers(-12, 13, (count, size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def store(pixels: np.ndarray, directory: Path) -> Examples:
    """Prepare a set of these images, to be read from disk."""
    (directory / "files").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(directory / "files" / f"{index:05d}.png", compress_level=1)
    prepare.prepare_folder(directory / "files", directory, image_size=pixels.shape[1])
    return load_data("tfds:images", data_dir=str(directory), in_memory=False).train


def measure(batches: Batches, secs: float) -> tuple[float, float]:
    """Return images per second and per second of processor time, after the first batches."""
    mesh = parallel.make_mesh(num_devices=1)
    take = jax.jit(make_take(batches))
    steps: Iterator = enumerate(feed(batches, mesh, 0, 10**6))
    for _ in range(8):  # compiles, and uses up what was read ahead meanwhile
        step, fed = next(steps)
        jax.block_until_ready(take(fed, step))
    started, processor, images = time.monotonic(), time.process_time(), 0
    while time.monotonic() - started < secs:
        step, fed = next(steps)
        jax.block_until_ready(take(fed, step))
        images += batches.batch_size
    return images / (time.monotonic() - started), images / (time.process_time() - processor)


if __name__ == "__main__":
    main()
