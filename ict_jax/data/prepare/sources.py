"""Pictures that become examples: files, members of tar files, arrays."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ict_jax.data.preprocess import center_crop, decode, decode_as_adm


class SourceImage(Protocol):
    """One example before it is made."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the set."""
        ...

    @property
    def label(self) -> int:
        """Its class."""
        ...

    def stamp(self) -> str:
        """Changes when what the picture is made from does."""
        ...

    def pixels(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3].

        Raises:
          ArgumentError: it cannot be made.
        """
        ...


def _file_stamp(path: str) -> str:
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns}"


class ImageFile(NamedTuple):
    """An image file of one's own."""

    name: str
    label: int
    path: str

    def stamp(self) -> str:
        """Size and time of the file."""
        return _file_stamp(self.path)

    def pixels(self, size: int) -> np.ndarray:
        """Upright, cropped."""
        return center_crop(decode(Path(self.path), size), size)


class ImageNetFile(NamedTuple):
    """An image file, or a part of a file such as a tar file, treated as ADM treats ImageNet."""

    name: str
    label: int
    path: str
    offset: int = 0
    length: int = -1

    def stamp(self) -> str:
        """Size and time of the file, and the place in it."""
        return f"{_file_stamp(self.path)} {self.offset} {self.length}"

    def pixels(self, size: int) -> np.ndarray:
        """As ADM's code makes them."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.length)
        where = self.path if self.length < 0 else f"{self.name} in {self.path}"
        return center_crop(decode_as_adm(content, where), size)


class ImageArray(NamedTuple):
    """An image that is in memory at its size."""

    name: str
    label: int
    array: np.ndarray

    def stamp(self) -> str:
        """A hash of the pixels."""
        return hashlib.sha256(self.array.tobytes()).hexdigest()

    def pixels(self, size: int) -> np.ndarray:
        """As they are."""
        return self.array
