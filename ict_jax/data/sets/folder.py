"""A folder of image files, one subfolder for each class."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, split_images
from ict_jax.data.preprocess import SUFFIXES, center_crop, decode

HELD_OUT_SHARE = 0.1  # of the images, for validation and for test each
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test"}
MAX_DEPTH = 30  # levels of folders below that of a set


def load_folder(*, data_dir: str | None, image_size: int | None) -> Dataset:
    """Load images uint8 [n, size, size, 3] from a folder, cropped as for ADM's ImageNet.

    The classes are the subfolders in the order of their names; without subfolders there is one.
    Hidden files are ignored. A fixed tenth each of the images is held out for validation and test.

    Args:
      data_dir: the folder.
      image_size: height and width of the loaded images.

    Raises:
      ArgumentError: the folder is missing or holds too few images, a class is empty, or a file
        is not a usable image.
    """
    if data_dir is None or image_size is None or image_size < 2:
        raise ArgumentError(
            f"data.name='folder' has data_dir={data_dir!r} and image_size={image_size!r}; give the "
            "folder, and the size to which its images are resized, such as 32."
        )
    directory = Path(data_dir)
    files, labels, classes = list_images(directory)
    with ThreadPoolExecutor() as pool:
        images = np.stack(
            list(pool.map(lambda path: center_crop(decode(path, image_size), image_size), files))
        )
    held_out = max(1, int(len(files) * HELD_OUT_SHARE))
    sizes = {"train": len(files) - 2 * held_out, "validation": held_out, "test": held_out}
    parts = split_images(images, np.array(labels, np.int32), sizes)
    return Dataset(f"folder {directory}", **parts, num_classes=len(classes))


def list_images(directory: Path) -> tuple[list[Path], list[int], list[str]]:
    """List the files, their classes, and the names of the classes.

    Raises:
      ArgumentError: a folder is missing or cannot be read, a class is empty, a file does not have
        the suffix of an image or a name in UTF-8, a link is broken or circular, or there are fewer
        than three images.
    """
    require(
        directory.is_dir(),
        f"{directory} is not a folder; give one of images, with a subfolder per class.",
    )
    files = _walk_files(directory)
    parts = [path.relative_to(directory).parts for path in files]
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and _visible(path.name))
    classes = [folder.name for folder in folders] or [directory.name]
    require(
        not folders or not SPLIT_NAMES.issuperset(classes),
        f"{directory} holds the splits {classes}, expected a subfolder per class; give "
        "one of them.",
    )
    for path, names in zip(files, parts, strict=True):
        require(
            not folders or len(names) > 1,
            f"{path} lies beside the folders of the classes; move it into one of them.",
        )
    numbers = {name: number for number, name in enumerate(classes)}
    found = [names[0] if folders else directory.name for names in parts]
    empty = sorted(numbers.keys() - found)
    require(
        not empty,
        f"{directory / empty[0] if folders and empty else directory} holds no images; remove that "
        "class, or put images into it.",
    )
    for path in files:
        require(
            path.suffix.lower() in SUFFIXES,
            f"{path} does not have the suffix of an image, expected one of {', '.join(SUFFIXES)}; "
            "leave it out.",
        )
    require(
        len(files) >= 3,
        f"{directory} holds {len(files)} images, expected at least one each for training, "
        "validation and test; add some.",
    )
    return files, [numbers[name] for name in found], classes


def _walk_files(directory: Path) -> list[Path]:
    """List all files below a directory by name; follow links, skip dotfiles."""

    def unreadable(error: OSError) -> NoReturn:
        raise ArgumentError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or remove it."
        ) from error

    files: list[Path] = []
    for folder, subfolders, names in os.walk(directory, followlinks=True, onerror=unreadable):
        subfolders[:] = sorted(filter(_visible, subfolders))
        require(
            len(Path(folder).parts) - len(directory.parts) < MAX_DEPTH,
            f"{folder} is too deep; a link below {directory} leads in a circle: remove it.",
        )
        files += [Path(folder, name) for name in filter(_visible, names)]
    for path in files:
        check_name(path)
        require(path.exists(), f"{path} is a link that leads nowhere; fix it, or remove it.")
    return sorted(files)


def check_name(path: Path) -> None:
    """Raise `ArgumentError` if a name is not UTF-8, as records and messages are."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise ArgumentError(f"the name {shown} is not UTF-8; rename that file.") from error


def _visible(name: str) -> bool:
    return not name.startswith(".")
