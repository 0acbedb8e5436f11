"""Conversion of samples to uint8, to grids and to PNG files."""

import io
import itertools
from typing import TypeVar

import numpy as np
from etils import epath
from jaxtyping import Array, UInt8
from PIL import Image

from ict_jax.data import ImageSet
from ict_jax.runtime.storage import write_atomically

AnyArray = TypeVar("AnyArray", np.ndarray, Array)

SMALLEST_SIDE = 32
"""Smaller images are shown enlarged by an integer factor."""


def to_uint8(x: AnyArray) -> AnyArray:
    """Map [-1, 1] to 0..255 by truncating (x + 1) * 127.5. Source: CM authors' code."""
    return ((x.astype(np.float32) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def image_grid(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "H W 3"]:
    """Arrange images in rows, one grey pixel apart; small ones are enlarged without smoothing."""
    n, h, w, _c = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    factor = -(-SMALLEST_SIDE // h)
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    grid = np.full((rows * (h + 1) + 1, columns * (w + 1) + 1, 3), 128, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (h + 1) + 1, (index % columns) * (w + 1) + 1
        grid[top : top + h, left : left + w] = image  # a single channel broadcasts to three
    return grid


def cycle_classes(data: ImageSet, count: int) -> UInt8[np.ndarray, "n h w c"]:
    """Return images of a set with their classes in rotation, as in samples."""
    members = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
    cycles = itertools.cycle([itertools.cycle(indices) for indices in members])
    return data.images[[next(next(cycles)) for _ in range(count)]]


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an image as the content of a PNG file."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    return png.getvalue()


def save_png(path: epath.Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an image, creating its directory if needed.

    Raises:
      NotSaved: it cannot be written.
    """
    write_atomically(path, encode_png(image))
