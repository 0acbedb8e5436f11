"""Sets that are prepared from what users have: ImageNet, folders of images, CIFAR-10."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.cifar10 import CLASSES, load_archive
from ict_jax.data.folder import HELD_OUT, list_images
from ict_jax.files import locked_directory
from ict_jax.metrics import say
from ict_jax.prepare import tfds_format
from ict_jax.prepare.imagenet import CLASSES as IMAGENET_CLASSES
from ict_jax.prepare.imagenet import list_imagenet
from ict_jax.prepare.pictures import ArrayPicture, FilePicture, Picture
from ict_jax.prepare.shards import fingerprint, make_tasks, read_note, write_shards, write_text

ORIGIN = "origin.json"
"""In a set: what it was made from, and what was left out."""


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
    say("listing the images of ImageNet")
    splits, names = list_imagenet(Path(source), None if val_labels is None else Path(val_labels))
    if len(names) != IMAGENET_CLASSES:
        say(f"note: {len(names)} classes were found, and ImageNet has {IMAGENET_CLASSES:,}")
    return _prepare(
        "imagenet64", "1.0.0", splits, names, 64, Path(out), skip_bad=skip_bad, workers=workers
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
        name.isidentifier() and name == name.lower(),
        f"--name={name} must be small letters, digits and underscores, as in my_images.",
    )
    require(image_size >= 2, f"--image_size={image_size} must be at least 2.")
    files, labels, classes = list_images(Path(source))
    pictures = [
        FilePicture(str(path.relative_to(source)), label, str(path))
        for path, label in zip(files, labels, strict=True)
    ]
    order = np.random.default_rng(0).permutation(len(pictures))
    cut = max(1, int(len(pictures) * HELD_OUT))
    parts = {"train": order[2 * cut :], "validation": order[cut : 2 * cut], "test": order[:cut]}
    splits = {split: [pictures[i] for i in np.sort(index)] for split, index in parts.items()}
    return _prepare(
        name, "1.0.0", splits, classes, image_size, Path(out), skip_bad=skip_bad, workers=workers
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
    sets = dict(zip(("train", "test"), load_archive(Path(source)), strict=True))
    splits = {
        split: [
            ArrayPicture(f"{split}_{index:05d}", int(label), image)
            for index, (image, label) in enumerate(zip(*examples, strict=True))
        ]
        for split, examples in sets.items()
    }
    version = tfds_format.CIFAR10_VERSION
    return _prepare(
        "cifar10", version, splits, list(CLASSES), 32, Path(out), skip_bad=False, workers=workers
    )


def _prepare(
    name: str,
    version: str,
    splits: Mapping[str, Sequence[Picture]],
    class_names: list[str],
    size: int,
    out: Path,
    *,
    skip_bad: bool,
    workers: int | None,
) -> Path:
    """Writes a set, or goes on with one begun before; it gets its own name when it is whole."""
    workers = workers if workers is not None else os.cpu_count() or 1
    require(workers >= 1, f"--workers={workers} must be at least 1.")
    whole = out / name / version
    begun = whole.with_name(f"{version}.incomplete")
    origin = {
        "made_from": fingerprint(splits, size=size, class_names=class_names, version=version),
        "images": {split: len(pictures) for split, pictures in splits.items()},
    }
    if whole.is_dir():
        _check_origin(whole, origin, "is another set; give another --out, or remove that one")
        say(f"{whole} is already there, made from the same images")
        return whole
    with locked_directory(begun, "--out"):
        if (begun / ORIGIN).is_file():
            _check_origin(
                begun,
                origin,
                "was begun from other images or options; go on with those, or remove it",
            )
        write_text(begun / ORIGIN, json.dumps(origin))
        serialize = tfds_format.Serializer(size, tuple(class_names))
        tasks = make_tasks(begun, tfds_format.namer(name), splits, size, serialize)
        every = [task for part in tasks.values() for task in part]
        write_shards(every, workers=workers)
        written = {split: [n for n in map(read_note, part) if n] for split, part in tasks.items()}
        bad = [message for notes in written.values() for note in notes for message in note.bad]
        _report_bad(bad, begun, skip_bad)
        origin["left_out"] = bad
        write_text(begun / ORIGIN, json.dumps(origin, indent=2) + "\n")
        tfds_format.write_metadata(begun, name, version, size, class_names, written)
        for task in every:
            task.note.unlink()
        (begun / ".lock").unlink()
        begun.rename(whole)
    counts = {split: sum(note.count for note in notes) for split, notes in written.items()}
    say(f"{', '.join(f'{split} {count:,}' for split, count in counts.items())} images: {whole}")
    say(f"train on it with --config.data.name=tfds:{name} --config.data.data_dir={out}")
    return whole


def _check_origin(directory: Path, origin: dict, otherwise: str) -> None:
    try:
        made_from = json.loads((directory / ORIGIN).read_text())["made_from"]
    except (OSError, ValueError, KeyError):
        made_from = None
    require(made_from == origin["made_from"], f"{directory} {otherwise}.")


def _report_bad(bad: list[str], begun: Path, skip_bad: bool) -> None:
    """Lists the files that could not be used.

    Raises:
      ArgumentError: there are some, and they are not to be skipped.
    """
    if not bad:
        return
    listing = begun.parent / "bad_files.txt"
    listing.write_text("".join(f"{message}\n" for message in bad))
    if not skip_bad:
        raise ArgumentError(
            f"{len(bad):,} files cannot be used, all listed in {listing}, first: {bad[0]} All "
            "others are made; mend these and run the same command again, or leave them out with "
            "--skip_bad."
        )
    say(f"{len(bad):,} files were left out, all listed in {listing}, first: {bad[0]}")
