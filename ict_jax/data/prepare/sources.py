"""Source images of prepared sets: files, members of tar files, arrays.

Each has a name, for messages and for the set, and a label; a stamp that changes whenever its source
does; and pixels, uint8 [size, size, 3], whose reading raises `ArgumentError` for bad files.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ict_jax.data.preprocess import center_crop, decode, decode_as_adm


def _file_stamp(path: str) -> str:
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns}"


class ImageFile(NamedTuple):
    """Image file of the user's own."""

    name: str
    label: int
    path: str

    def stamp(self) -> str:
        """Return size and time of the file."""
        return _file_stamp(self.path)

    def pixels(self, size: int) -> np.ndarray:
        """Decode the file upright and crop it."""
        return center_crop(decode(Path(self.path), size), size)


class ImageNetFile(NamedTuple):
    """Image file, or member of a tar file, decoded as ADM decodes ImageNet."""

    name: str
    label: int
    path: str
    offset: int = 0
    length: int = -1

    def stamp(self) -> str:
        """Return size and time of the file, and the position in it."""
        return f"{_file_stamp(self.path)} {self.offset} {self.length}"

    def pixels(self, size: int) -> np.ndarray:
        """Decode and crop the image as ADM's code does."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.length)
        where = self.path if self.length < 0 else f"{self.name} in {self.path}"
        return center_crop(decode_as_adm(content, where), size)


class ImageArray(NamedTuple):
    """Image in memory at its final size."""

    name: str
    label: int
    array: np.ndarray

    def stamp(self) -> str:
        """Return a hash of the pixels."""
        return hashlib.sha256(self.array.tobytes()).hexdigest()

    def pixels(self, size: int) -> np.ndarray:
        """Return the array."""
        return self.array


SourceImage = ImageFile | ImageNetFile | ImageArray
