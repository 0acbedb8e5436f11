"""A folder of image files, one subfolder for each class."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ict_jax.core.errors import require
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


def list_images(directory: Path) -> tuple[list[Path], list[int], list[str]]:
    """Files, their classes, and the names of the classes.

    Raises:
      ArgumentError: the folder is missing, a class is empty, a file has the name of no image, or
        there are fewer than three.
    """
    require(
        directory.is_dir(),
        f"data_dir={directory} is not a folder; give one of images, with a subfolder per class.",
    )
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and _seen(path))
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders or [directory]):
        found = sorted(path for path in folder.rglob("*") if path.is_file() and _seen(path))
        require(bool(found), f"{folder} holds no images; remove that class, or put images into it.")
        files += found
        labels += [label] * len(found)
    if folders:
        loose = [path for path in directory.iterdir() if path.is_file() and _seen(path)]
        require(
            not loose,
            f"{loose[:1]} lies beside the folders of the classes; move it into one of them.",
        )
    others = [path for path in files if path.suffix.lower() not in SUFFIXES]
    require(
        not others,
        f"{others[:1]} has the name of no image, expected one of {list(SUFFIXES)}; leave it out.",
    )
    require(
        len(files) >= 3,
        f"{directory} holds {len(files)} images, expected at least one each for training, "
        "validation and test; add some.",
    )
    return files, labels, [folder.name for folder in folders or [directory]]


def _seen(path: Path) -> bool:
    return not path.name.startswith(".")
