"""Sets prepared from the user's files: ImageNet, folders of images, CIFAR-10."""

import re
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from ict_jax.core.errors import require
from ict_jax.data.prepare.imagenet import COUNTS, list_imagenet
from ict_jax.data.prepare.sources import ImageArray, ImageFile
from ict_jax.data.prepare.write_set import write_image_set
from ict_jax.data.sets.cifar10 import CLASSES, load_archive
from ict_jax.data.sets.folder import HELD_OUT_SHARE, list_images
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import to_local_path


def prepare_imagenet64(
    source: str | Path,
    out: str | Path,
    *,
    val_labels: str | Path | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
) -> Path:
    """Prepare ImageNet 64x64 as used by ADM, CM and iCT from raw ImageNet (ILSVRC 2012).

    Args:
      source: directory of the images, as for `list_imagenet`.
      out: data directory that gets `imagenet64/`; `tfds:imagenet64` reads it there.
      val_labels: classes of the validation images, as for `list_imagenet`.
      skip_bad: leave out unreadable files.
      workers: number of processes; default: one per core.

    Raises:
      ArgumentError: something is missing or unknown, or files cannot be read.

    Source: Dhariwal & Nichol, 2021 (ADM), their code for class-conditional ImageNet.
    """
    source, out = _local_paths(source, out)
    say("listing the images of ImageNet")
    splits, names = list_imagenet(source, None if val_labels is None else Path(val_labels))
    found = {"classes": names, **{f"{split} images": images for split, images in splits.items()}}
    for what, published in COUNTS.items():
        if len(found[what]) != published:
            say(f"note: found {len(found[what]):,} {what}; ImageNet has {published:,}")
    return write_image_set(
        "imagenet64", "1.0.0", splits, names, 64, out, skip_bad=skip_bad, workers=workers
    )


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    name: str = "images",
    image_size: int,
    skip_bad: bool = False,
    workers: int | None = None,
) -> Path:
    """Prepare a folder of images, cropped as for ImageNet; a tenth each for validation and test.

    Args:
      source: the folder, with a subfolder per class or none.
      out: data directory that gets the set; `tfds:NAME` reads it there.
      name: name of the set: lowercase letters, digits and underscores.
      image_size: height and width of the prepared images.
      skip_bad: leave out unusable files.
      workers: number of processes; default: one per core.

    Raises:
      ArgumentError: a wrong argument, no images, or unusable files.
    """
    require(
        re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None,
        f"--name={name} must be lowercase letters, digits and underscores after a letter, such as "
        "my_images.",
    )
    require(
        name not in tfds.list_builders(with_community_datasets=False),
        f"--name={name} is the name of a set of TFDS, which would be read in its place; choose "
        "another.",
    )
    require(image_size >= 2, f"--image_size={image_size} must be at least 2.")
    source, out = _local_paths(source, out)
    files, labels, classes = list_images(source)
    images = [
        ImageFile(str(path.relative_to(source)), label, str(path))
        for path, label in zip(files, labels, strict=True)
    ]
    order = np.random.default_rng(0).permutation(len(images))
    cut = max(1, int(len(images) * HELD_OUT_SHARE))
    parts = {"train": order[2 * cut :], "validation": order[cut : 2 * cut], "test": order[:cut]}
    splits = {split: [images[i] for i in np.sort(index)] for split, index in parts.items()}
    return write_image_set(
        name, "1.0.0", splits, classes, image_size, out, skip_bad=skip_bad, workers=workers
    )


def prepare_cifar10(source: str | Path, out: str | Path, *, workers: int | None = None) -> Path:
    """Prepare CIFAR-10 from its original archive as TFDS would, without TensorFlow.

    Args:
      source: directory of the archive.
      out: data directory that gets `cifar10/`.
      workers: number of processes; default: one per core.

    Raises:
      ArgumentError: the archive is missing or is not the published one.
    """
    source, out = to_local_path(source, "--source"), to_local_path(out, "--out")
    splits = {
        split: [
            ImageArray(f"{split}_{index:05d}", int(label), image)
            for index, (image, label) in enumerate(zip(*examples, strict=True))
        ]
        for split, examples in zip(("train", "test"), load_archive(source), strict=True)
    }
    version = "3.0.2"  # that of TFDS's builder, which then reads the set as its own
    return write_image_set(
        "cifar10", version, splits, list(CLASSES), 32, out, skip_bad=False, workers=workers
    )


def _local_paths(source: str | Path, out: str | Path) -> tuple[Path, Path]:
    """Convert to local paths; raise `ArgumentError` if `out` is in a bucket or in `source`."""
    source, out = to_local_path(source, "--source"), to_local_path(out, "--out")
    require(
        not out.resolve().is_relative_to(source.resolve()),
        f"--out={out} is --source or lies in it, so the prepared set would be read as source next "
        "time; give another.",
    )
    return source, out
