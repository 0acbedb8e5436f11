"""The pictures of raw ImageNet (ILSVRC 2012) in the forms it is kept in."""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.prepare.sources import ImageNetFile
from ict_jax.data.sets.folder import check_name
from ict_jax.runtime.storage import contained

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
CLASSES = 1000
COUNTS = {"train": 1_281_167, "validation": 50_000}
SYNSET = re.compile(r"n\d{8}")


def list_imagenet(
    source: Path, val_labels: Path | None
) -> tuple[dict[str, list[ImageNetFile]], list[str]]:
    """Pictures of the splits `train` and `validation`, and the names of the classes.

    The classes are the WordNet ids in ascending order, the standard order of the labels 0 to 999.

    Args:
      source: holds `train/`, with a subfolder per class, or ILSVRC2012_img_train.tar; and `val/`,
        with or without subfolders, or ILSVRC2012_img_val.tar.
      val_labels: the classes of the validation images, needed where these have no subfolders: a
        text file of one WordNet id per image in the order of their names, or Kaggle's
        LOC_val_solution.csv.

    Raises:
      ArgumentError: something of it is missing or unknown.
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
    for picture in (*splits["train"], *splits["validation"]):
        check_name(Path(picture.path, picture.name))
    return splits, synsets


Found = tuple[str, str, str, int, int]
"""WordNet id, name of the image, path of the file, offset and length in it."""


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
    if folder.is_dir():
        files = [(entry.name, entry.path, 0, -1) for entry in _files(folder)]
        place = folder
    else:
        require(
            tar.is_file(),
            f"{source} holds neither val/ nor {VAL_TAR}; add the validation images.",
        )
        files, place = list(_members(tar)), tar
    files.sort()
    if val_labels is None:
        raise ArgumentError(
            f"{place} does not say the classes of its images; give --val_labels, a text file "
            "of one WordNet id per image in the order of their names, or LOC_val_solution.csv."
        )
    synsets = _read_labels(val_labels, [Path(name).stem for name, *_ in files])
    for synset, (name, path, offset, length) in zip(synsets, files, strict=True):
        yield synset, name, path, offset, length


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
    hidden = [path for path in directory.iterdir() if path.name.startswith(".")]
    return sorted(path for path in directory.iterdir() if path.is_dir() and path not in hidden)


def _files(directory: Path) -> list[os.DirEntry]:
    with os.scandir(directory) as entries:  # a million files: it knows their kind at once
        return [e for e in entries if e.is_file() and not e.name.startswith(".")]


def _check_synset(name: str, where: str) -> None:
    require(
        SYNSET.fullmatch(name) is not None,
        f"{where} is not named by a WordNet id such as n01440764; give the folder of ImageNet "
        "as it is published.",
    )


def _members(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Name, path, offset and length of the files of a tar file and of the tar files in it."""
    try:
        with tarfile.open(path, "r:") as outer, path.open("rb") as file:
            for member in outer:
                if not member.isfile():
                    continue
                contained(member.name, path)
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
    """A tar file ends with zeros; its reader also stops, without a word, at a damaged header."""
    file.seek(offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"damaged at byte {offset:,}")


def _read_labels(path: Path, stems: list[str]) -> list[str]:
    """The WordNet id of each image."""
    require(path.is_file(), f"--val_labels={path} does not exist; give the file of the classes.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise ArgumentError(f"--val_labels={path} is no text ({error}); give another.") from error
    if lines[0].startswith("ImageId,"):
        found = {
            image: prediction.split()[0]
            for image, _, prediction in (line.partition(",") for line in lines[1:])
            if prediction.strip()
        }
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
