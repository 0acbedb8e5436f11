"""Pictures that become examples: files, members of tar files, arrays."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ict_jax.data.preprocess import center_crop, decode, decode_as_adm


class Picture(Protocol):
    """One example before it is made."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the set."""
        ...

    @property
    def label(self) -> int:
        """Its class."""
        ...

    def pixels(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3].

        Raises:
          ArgumentError: it cannot be made.
        """
        ...


class FilePicture(NamedTuple):
    """An image file of one's own."""

    name: str
    label: int
    path: str

    def pixels(self, size: int) -> np.ndarray:
        """Upright, cropped."""
        return center_crop(decode(Path(self.path), size), size)


class ImageNetPicture(NamedTuple):
    """An image file, or a part of a file such as a tar file, treated as ADM treats ImageNet."""

    name: str
    label: int
    path: str
    offset: int = 0
    length: int = -1

    def pixels(self, size: int) -> np.ndarray:
        """As ADM's code makes them."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.length)
        where = self.path if self.length < 0 else f"{self.name} in {self.path}"
        return center_crop(decode_as_adm(content, where), size)


class ArrayPicture(NamedTuple):
    """An image that is in memory at its size."""

    name: str
    label: int
    array: np.ndarray

    def pixels(self, size: int) -> np.ndarray:
        """As they are."""
        return self.array
