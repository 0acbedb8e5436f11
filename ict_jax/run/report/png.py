"""PNG images to embed in a page."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ict_jax.evaluation.grids import encode_png


class PngImage(NamedTuple):
    """Content of a PNG file, and its size in pixels."""

    png: bytes
    width: int
    height: int


def read_png(png: bytes) -> PngImage:
    """Check the content of a PNG file and find its size.

    Raises:
      ValueError: it is damaged, or not a PNG.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
            return PngImage(png, *image.size)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "no PNG file" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(str(reason)) from error


def shrink(image: PngImage, width: int) -> PngImage:
    """Scale an image down to `width` if it is wider."""
    if image.width <= width:
        return image
    height = max(round(image.height * width / image.width), 1)
    with Image.open(io.BytesIO(image.png), formats=["PNG"]) as pixels:
        small = pixels.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return PngImage(encode_png(np.asarray(small)), width, height)
