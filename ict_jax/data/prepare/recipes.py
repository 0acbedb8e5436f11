"""Sets that are prepared from what users have: ImageNet, folders of images, CIFAR-10."""

import re
from pathlib import Path

import numpy as np

from ict_jax.core.errors import require
from ict_jax.data.prepare import tfds_format
from ict_jax.data.prepare.imagenet import CLASSES as IMAGENET_CLASSES
from ict_jax.data.prepare.imagenet import COUNTS, list_imagenet
from ict_jax.data.prepare.sources import ImageArray, ImageFile
from ict_jax.data.prepare.write_set import make_set
from ict_jax.data.sets.cifar10 import CLASSES, load_archive
from ict_jax.data.sets.folder import HELD_OUT, list_images
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
    """ImageNet 64x64 as ADM, CM and iCT have it, from raw ImageNet (ILSVRC 2012).

    Args:
      source: of the images, as in `list_imagenet`.
      val_labels: classes of the validation images, as in `list_imagenet`.
      out: data directory that gets `imagenet64/`; `tfds:imagenet64` reads it there.
      skip_bad: leave out files that cannot be read.
      workers: processes; default: one per core.

    Raises:
      ArgumentError: something is missing or unknown, or files cannot be read.

    Source: Dhariwal & Nichol, 2021 (ADM), their code for class-conditional ImageNet.
    """
    source, out = _places(source, out)
    say("listing the images of ImageNet")
    splits, names = list_imagenet(source, None if val_labels is None else Path(val_labels))
    for what, found, published in (
        ("classes", len(names), IMAGENET_CLASSES),
        *((f"{split} images", len(splits[split]), count) for split, count in COUNTS.items()),
    ):
        if found != published:
            say(f"note: {found:,} {what} were found, and ImageNet has {published:,}")
    return make_set(
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
    """A folder of images, cropped as those of ImageNet, a tenth each for validation and test.

    Args:
      source: the folder, with a subfolder per class or none.
      out: data directory that gets the set; `tfds:NAME` reads it there.
      name: of the set: small letters, digits and underscores.
      image_size: height and width to make.
      skip_bad: leave out files that cannot be used.
      workers: processes; default: one per core.

    Raises:
      ArgumentError: a wrong argument, no images, or files that cannot be used.
    """
    require(
        re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None,
        f"--name={name} must be a small letter, and then small letters, digits and underscores, as "
        "in my_images.",
    )
    require(
        name not in tfds_format.known_names(),
        f"--name={name} is the name of a set of TFDS, which would be read in its place; choose "
        "another.",
    )
    require(image_size >= 2, f"--image_size={image_size} must be at least 2.")
    source, out = _places(source, out)
    files, labels, classes = list_images(source)
    pictures = [
        ImageFile(str(path.relative_to(source)), label, str(path))
        for path, label in zip(files, labels, strict=True)
    ]
    order = np.random.default_rng(0).permutation(len(pictures))
    cut = max(1, int(len(pictures) * HELD_OUT))
    parts = {"train": order[2 * cut :], "validation": order[cut : 2 * cut], "test": order[:cut]}
    splits = {split: [pictures[i] for i in np.sort(index)] for split, index in parts.items()}
    return make_set(
        name, "1.0.0", splits, classes, image_size, out, skip_bad=skip_bad, workers=workers
    )


def prepare_cifar10(source: str | Path, out: str | Path, *, workers: int | None = None) -> Path:
    """CIFAR-10 from its original archive, as TFDS would prepare it, without TensorFlow.

    Args:
      source: directory of the archive.
      out: data directory that gets `cifar10/`.
      workers: processes; default: one per core.

    Raises:
      ArgumentError: the archive is missing or is not the published one.
    """
    source, out = to_local_path(source, "--source"), to_local_path(out, "--out")
    sets = dict(zip(("train", "test"), load_archive(source), strict=True))
    splits = {
        split: [
            ImageArray(f"{split}_{index:05d}", int(label), image)
            for index, (image, label) in enumerate(zip(*examples, strict=True))
        ]
        for split, examples in sets.items()
    }
    version = tfds_format.CIFAR10_VERSION
    return make_set(
        "cifar10", version, splits, list(CLASSES), 32, out, skip_bad=False, workers=workers
    )


def _places(source: str | Path, out: str | Path) -> tuple[Path, Path]:
    """Both on this machine.

    Raises:
      ArgumentError: they are not, or what is made would lie among what it is made from.
    """
    source, out = to_local_path(source, "--source"), to_local_path(out, "--out")
    require(
        not out.resolve().is_relative_to(source.resolve()),
        f"--out={out} is --source or lies in it, so that what is made would be read the next time; "
        "give another.",
    )
    return source, out
