"""The images of raw ImageNet (ILSVRC 2012), in folders or tar files."""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.prepare.sources import ImageNetFile
from ict_jax.data.sets.folder import check_name
from ict_jax.runtime.storage import safe_relative_path

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
COUNTS = {"classes": 1000, "train images": 1_281_167, "validation images": 50_000}
SYNSET = re.compile(r"n\d{8}")
Found = tuple[str, str, str, int, int]  # WordNet id, name, path of the file, offset, length


def list_imagenet(
    source: Path, val_labels: Path | None
) -> tuple[dict[str, list[ImageNetFile]], list[str]]:
    """List the images of the splits `train` and `validation`, and the names of the classes.

    The classes are the WordNet ids in ascending order, the standard order of the labels 0 to 999.

    Args:
      source: directory of `train/`, with a subfolder per class, or ILSVRC2012_img_train.tar; and
        of `val/`, with or without subfolders, or ILSVRC2012_img_val.tar.
      val_labels: classes of the validation images, needed if these have no subfolders: a text
        file of one WordNet id per image in the order of their names, or Kaggle's
        LOC_val_solution.csv.

    Raises:
      ArgumentError: something is missing or unknown.
    """
    train = list(_train(source))
    synsets = sorted({synset for synset, *_ in train})
    labels = {synset: label for label, synset in enumerate(synsets)}
    validation = list(_validation(source, val_labels))
    unknown = sorted({synset for synset, *_ in validation} - set(labels))
    require(
        not unknown,
        f"the validation images of {source} have the classes {unknown[:3]} that its training "
        "images do not have; give the training images of all classes.",
    )
    splits = {
        split: [
            ImageNetFile(name, labels[synset], path, offset, length)
            for synset, name, path, offset, length in sorted(found)
        ]
        for split, found in (("train", train), ("validation", validation))
    }
    for image in (*splits["train"], *splits["validation"]):
        check_name(Path(image.path, image.name))
    return splits, synsets


def _train(source: Path) -> Iterator[Found]:
    if (source / "train").is_dir():
        yield from _folders(source / "train")
    elif (source / TRAIN_TAR).is_file():
        for name, path, offset, length in _members(source / TRAIN_TAR):
            synset = Path(name).parts[0].removesuffix(".tar")
            _check_synset(synset, f"{source / TRAIN_TAR}: {name}")
            yield synset, name, path, offset, length
    else:
        raise ArgumentError(
            f"{source} holds neither train/ nor {TRAIN_TAR}; give the folder of "
            "ImageNet as --source."
        )


def _validation(source: Path, val_labels: Path | None) -> Iterator[Found]:
    folder, tar = source / "val", source / VAL_TAR
    if folder.is_dir() and _directories(folder):
        yield from _folders(folder)
        return
    require(
        folder.is_dir() or tar.is_file(),
        f"{source} holds neither val/ nor {VAL_TAR}; add the validation images.",
    )
    if folder.is_dir():
        files, place = sorted((entry.name, entry.path, 0, -1) for entry in _files(folder)), folder
    else:
        files, place = sorted(_members(tar)), tar
    if val_labels is None:
        raise ArgumentError(
            f"{place} does not say the classes of its images; give --val_labels, a text file "
            "of one WordNet id per image in the order of their names, or LOC_val_solution.csv."
        )
    synsets = _read_labels(val_labels, [Path(name).stem for name, *_ in files])
    yield from ((synset, *file) for synset, file in zip(synsets, files, strict=True))


def _folders(directory: Path) -> Iterator[Found]:
    folders = _directories(directory)
    require(bool(folders), f"{directory} holds no folders of classes; give the raw images.")
    for folder in folders:
        _check_synset(folder.name, str(folder))
        files = _files(folder)
        require(bool(files), f"{folder} holds no images; get that class again.")
        for entry in files:
            yield folder.name, f"{folder.name}/{entry.name}", entry.path, 0, -1


def _directories(directory: Path) -> list[Path]:
    visible = (path for path in directory.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.is_dir())


def _files(directory: Path) -> list[os.DirEntry]:
    with os.scandir(directory) as entries:  # no stat for each of a million files
        return [e for e in entries if e.is_file() and not e.name.startswith(".")]


def _check_synset(name: str, where: str) -> None:
    require(
        SYNSET.fullmatch(name) is not None,
        f"{where} is not named by a WordNet id such as n01440764; give the folder of ImageNet "
        "as it is published.",
    )


def _members(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Iterate over name, path, offset and length of the files in a tar file and tars in it."""
    try:
        with tarfile.open(path, "r:") as outer, path.open("rb") as file:
            for member in outer:
                if not member.isfile():
                    continue
                safe_relative_path(member.name, path)
                if not member.name.endswith(".tar"):
                    yield member.name, str(path), member.offset_data, member.size
                    continue
                file.seek(member.offset_data)
                with tarfile.open(fileobj=file, mode="r:") as inner:
                    for part in filter(tarfile.TarInfo.isfile, inner):
                        name = f"{Path(member.name).stem}/{Path(part.name).name}"
                        yield name, str(path), part.offset_data, part.size
                    _check_end(file, inner.offset)
            _check_end(file, outer.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArgumentError(f"{path} is no whole tar file ({error}); get it again.") from error


def _check_end(file: IO[bytes], offset: int) -> None:
    """Check for the zeros that end a tar file: its reader stops silently at a damaged header."""
    file.seek(offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"damaged at byte {offset:,}")


def _read_labels(path: Path, stems: list[str]) -> list[str]:
    """Read the WordNet id of each image."""
    require(path.is_file(), f"--val_labels={path} does not exist; give the file of the classes.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise ArgumentError(f"--val_labels={path} is no text ({error}); give another.") from error
    if lines[0].startswith("ImageId,"):
        rows = (line.partition(",") for line in lines[1:])
        found = {image: label.split()[0] for image, _, label in rows if label.strip()}
        missing = [stem for stem in stems if stem not in found]
        require(
            not missing,
            f"--val_labels={path} lacks {len(missing)} images, first {missing[:1]}; give "
            "LOC_val_solution.csv as it is published.",
        )
        return [found[stem] for stem in stems]
    synsets = [line.strip() for line in lines if line.strip()]
    require(
        len(synsets) == len(stems) and all(SYNSET.fullmatch(synset) for synset in synsets),
        f"--val_labels={path} has {len(synsets)} lines for {len(stems)} images, expected a WordNet "
        "id such as n01440764 for each; give that of the same images.",
    )
    return synsets
