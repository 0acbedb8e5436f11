"""Samples as uint8 and as grids in PNG files."""

import io
from typing import TypeVar

import numpy as np
from etils import epath
from jaxtyping import Array, UInt8
from PIL import Image

from ict_jax.data import ImageSet
from ict_jax.runtime.storage import write_at_once

AnyArray = TypeVar("AnyArray", np.ndarray, Array)

SMALLEST_SIDE = 32
"""Images smaller than this are enlarged by a whole factor when shown."""


def to_uint8(x: AnyArray) -> AnyArray:
    """[-1, 1] to 0..255, (x + 1) * 127.5 truncated. Source: CM authors' code (no rounding)."""
    return ((x.astype(np.float32) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def image_grid(
    images: UInt8[np.ndarray, "n h w c"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The images in rows, one grey pixel apart, small ones enlarged without smoothing."""
    n, h, w, _c = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    factor = -(-SMALLEST_SIDE // h)
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    grid = np.full((rows * (h + 1) + 1, columns * (w + 1) + 1, 3), 128, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (h + 1) + 1, (index % columns) * (w + 1) + 1
        grid[top : top + h, left : left + w] = image  # one channel is spread over three
    return grid


def classes_in_turn(data: ImageSet, count: int) -> UInt8[np.ndarray, "n h w c"]:
    """Images of a set, their classes in turn as in samples."""
    of_class = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
    chosen = []
    for index in range(count):
        row, column = divmod(index, len(of_class))
        chosen.append(of_class[column][row % len(of_class[column])])
    return data.images[chosen]


def encode_png(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The content of a PNG file."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    return png.getvalue()


def save_png(path: epath.Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a picture, making its directory if needed.

    Raises:
      NotSaved: it cannot be written.
    """
    write_at_once(path, encode_png(picture))
