"""Pictures to be shown in a page."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ict_jax.evaluation.grids import encode_png


class PngImage(NamedTuple):
    """A PNG file, and its size in pixels."""

    png: bytes
    width: int
    height: int


def read_png(png: bytes) -> PngImage:
    """A picture from the content of its file.

    Raises:
      ValueError: it is damaged, or no PNG.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            picture.load()
            return PngImage(png, *picture.size)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "no PNG file" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(str(reason)) from error


def reduced(picture: PngImage, width: int) -> PngImage:
    """The picture, made smaller if it is wider than `width`."""
    if picture.width <= width:
        return picture
    height = max(round(picture.height * width / picture.width), 1)
    with Image.open(io.BytesIO(picture.png), formats=["PNG"]) as image:
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return PngImage(encode_png(np.asarray(small)), width, height)
