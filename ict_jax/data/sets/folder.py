"""A folder of image files, one subfolder for each class."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, split_images
from ict_jax.data.preprocess import SUFFIXES, center_crop, decode

HELD_OUT = 0.1
"""Share of the images that each of validation and test gets."""


def load_folder(*, data_dir: str | None, image_size: int | None) -> Dataset:
    """Images uint8 [n, size, size, 3] of a folder, cropped as for ADM's ImageNet.

    The classes are the subfolders in the order of their names; without subfolders there is one.
    Hidden files are passed over. A fixed tenth each of the images is held out for validation and
    test.

    Args:
      data_dir: the folder.
      image_size: height and width to make.

    Raises:
      ArgumentError: the folder is missing or holds too few images, a class is empty, or a file
        is no image that can be used.
    """
    require(
        data_dir is not None and image_size is not None and image_size >= 2,
        f"data.name='folder' has data_dir={data_dir!r} and image_size={image_size!r}; give the "
        "folder, and the size to make of its images, as in 32.",
    )
    assert data_dir is not None and image_size is not None
    directory = Path(data_dir)
    files, labels, classes = list_images(directory)
    with ThreadPoolExecutor() as pool:
        images = np.stack(
            list(pool.map(lambda path: center_crop(decode(path, image_size), image_size), files))
        )
    held_out = max(1, int(len(files) * HELD_OUT))
    sizes = {"train": len(files) - 2 * held_out, "validation": held_out, "test": held_out}
    parts = split_images(images, np.array(labels, np.int32), sizes)
    return Dataset(f"folder {directory}", **parts, num_classes=len(classes))


SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def list_images(directory: Path) -> tuple[list[Path], list[int], list[str]]:
    """Files, their classes, and the names of the classes.

    Raises:
      ArgumentError: the folder is missing or cannot be read, a class is empty, a file has the name
        of no image, or there are fewer than three.
    """
    require(
        directory.is_dir(),
        f"{directory} is not a folder; give one of images, with a subfolder per class.",
    )
    every = walk_files(directory)
    inside = [path.relative_to(directory).parts for path in every]
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and _seen(path.name))
    classes = [folder.name for folder in folders] or [directory.name]
    require(
        not folders or not SPLITS.issuperset(classes),
        f"{directory} holds the splits {classes}, expected a subfolder per class; give "
        "one of them.",
    )
    loose = [path for path, parts in zip(every, inside, strict=True) if len(parts) == 1]
    require(
        not folders or not loose,
        f"{_first(loose)} lies beside the folders of the classes; move it into one of them.",
    )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[parts[0]] if folders else 0 for parts in inside]
    empty = sorted(set(classes).difference(classes[label] for label in set(labels)))
    require(
        not empty,
        f"{directory / empty[0] if folders and empty else directory} holds no images; remove that "
        "class, or put images into it.",
    )
    others = [path for path in every if path.suffix.lower() not in SUFFIXES]
    require(
        not others,
        f"{_first(others)} has the name of no image, expected one of {', '.join(SUFFIXES)}; "
        "leave it out.",
    )
    require(
        len(every) >= 3,
        f"{directory} holds {len(every)} images, expected at least one each for training, "
        "validation and test; add some.",
    )
    return every, labels, classes


def walk_files(directory: Path) -> list[Path]:
    """All files below a directory in the order of their names; links are followed.

    What has a name that begins with a dot is passed over.

    Raises:
      ArgumentError: a directory cannot be read, a link leads nowhere or in a circle, or a name is
        not UTF-8.
    """

    def unreadable(error: OSError) -> NoReturn:
        raise ArgumentError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or remove it."
        ) from error

    files: list[Path] = []
    for folder, names, here in os.walk(directory, followlinks=True, onerror=unreadable):
        names[:] = sorted(filter(_seen, names))
        require(
            len(Path(folder).parts) - len(directory.parts) < DEEPEST,
            f"{folder} is too deep; a link below {directory} leads in a circle: remove it.",
        )
        files += [Path(folder, name) for name in here if _seen(name)]
    for path in files:
        check_name(path)
        require(path.exists(), f"{path} is a link that leads nowhere; mend it, or remove it.")
    return sorted(files)


DEEPEST = 30
"""Levels of folders below that of a set."""


def check_name(path: Path) -> None:
    """Raises `ArgumentError` if a name is not UTF-8, as records and messages are."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise ArgumentError(f"the name {shown} is not UTF-8; rename that file.") from error


def _seen(name: str) -> bool:
    return not name.startswith(".")


def _first(paths: list[Path]) -> str:
    return str(paths[0]) if paths else ""
