"""Images per second that the data pipeline delivers, held on the device or read ahead.

  python benchmarks/data_speed.py

Sets of made-up images with the sizes of real ones, since speed does not depend on what they show:
smooth colours with a little noise, which PNG compresses to about 9 kB at 64x64, as photographs.
`in memory` reads ahead from an array, `on disk` from a set as `ict_jax.cli.prepare` makes it,
`held` takes batches from an array on the device inside a jitted step, and nothing else. Images per
core-second divides by the processor time that all threads of the process used.
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

# Image size, and what one TPU v5e chip takes at 40% of its 197 TFLOP/s, from the operations that
# `train --dry_run` counts for an image: 1.698e11 of cifar10_ict, 8.771e11 of imagenet64_ict.
SETS = {
    "CIFAR-10": (32, 1024, 0.4 * 197e12 / 1.698e11),
    "ImageNet 64x64": (64, 4096, 0.4 * 197e12 / 8.771e11),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default=8192, type=int, help="in each set")
    parser.add_argument("--secs", default=10.0, type=float, help="for each measurement")
    parser.add_argument("--read_threads", default=[1, 2, 4, 8], type=int, nargs="+")
    arguments = parser.parse_args()
    print(f"{'set':15} {'from':10} threads  images/s  per core-second  v5e chips fed")
    for name, (size, batch_size, appetite) in SETS.items():
        pixels = make_images(arguments.images, size)
        labels = np.zeros(len(pixels), np.int32)
        memory = ImageSet(pixels, labels)
        with tempfile.TemporaryDirectory() as directory:
            disk = store(pixels, Path(directory))
            cases = [("held", memory, 1), ("in memory", memory, 1)]
            cases += itertools.product(["on disk"], [disk], arguments.read_threads)
            for where, data, threads in cases:
                batches = Batches(
                    data, batch_size, 0, on_device=where == "held", read_threads=threads
                )
                rate, per_core = measure(batches, arguments.secs)
                print(
                    f"{name:15} {where:10} {'-' if where == 'held' else threads:>7} {rate:9,.0f} "
                    f"{per_core:16,.0f} {rate / appetite:14,.0f}",
                    flush=True,
                )


def make_images(count: int, size: int) -> np.ndarray:
    """Smooth colours with noise, uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 8, size // 8, 3), np.uint8)
    shape = (size, size)
    smooth = [Image.fromarray(c).resize(shape, Image.Resampling.BICUBIC) for c in coarse]
    noisy = np.stack(smooth) + rng.integers(-12, 13, (count, size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def store(pixels: np.ndarray, directory: Path) -> Examples:
    """A prepared set of these images, read from disk."""
    (directory / "files").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(directory / "files" / f"{index:05d}.png", compress_level=1)
    prepare.prepare_folder(directory / "files", directory, image_size=pixels.shape[1])
    return load_data("tfds:images", data_dir=str(directory), in_memory=False).train


def measure(batches: Batches, secs: float) -> tuple[float, float]:
    """Images per second and per second of processor time, after the first batches."""
    mesh = parallel.make_mesh(num_devices=1)
    take = jax.jit(make_take(batches))
    steps: Iterator = enumerate(feed(batches, mesh, 0, 10**6))
    for _ in range(8):  # compiled, and what was read ahead meanwhile is used up
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
