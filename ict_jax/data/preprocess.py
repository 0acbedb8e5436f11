"""Decoding and cropping of image files."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from ict_jax.core.errors import ArgumentError, require

COLOUR_MODES = ("RGB", "RGBA", "P", "L", "LA", "1")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that Pillow decodes itself; others, such as EPS, it passes to external programs."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Open an untrusted image, of `FORMATS` only whatever its name says."""
    return Image.open(source, formats=FORMATS)


def decode(path: Path, smallest: int) -> Image.Image:
    """Decode a file to RGB, upright, with transparent pixels white.

    Raises:
      ArgumentError: the file is not an image, truncated, animated, 16-bit, CMYK or the like, or
        its short side has fewer than `smallest` pixels.
    """
    with _opened(path, str(path)) as opened:
        _check(opened, path, smallest)
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGBA", "LA", "P") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")


def _check(image: Image.Image, path: Path, smallest: int) -> None:
    # Phones add a preview to a photo and call it MPO; its first image is the photo.
    require(
        getattr(image, "n_frames", 1) == 1 or image.format == "MPO",
        f"{path} is animated or has several pages, expected one image; keep one of them.",
    )
    # Look at the stored bits: Pillow reduces 16-bit files and still reports RGB.
    stored = [part for tile in getattr(image, "tile", []) for part in np.atleast_1d(tile[3])]
    deep = any(";16" in str(part) for part in stored) or (
        image.format == "PPM" and any(str(part).isdecimal() and int(part) > 255 for part in stored)
    )
    require(
        image.mode in COLOUR_MODES and not deep,
        f"{path} has the mode {image.mode}{' of 16 bits' if deep else ''}, expected 8-bit RGB or "
        "grey; convert it, or leave it out.",
    )
    require(
        min(image.size) >= smallest,
        f"{path} has {image.width}x{image.height} pixels, fewer than the target size {smallest}; "
        "leave it out, or choose a smaller size.",
    )


def decode_as_adm(content: bytes, name: str) -> Image.Image:
    """Decode the content of a file of any mode and size as ADM's code does.

    CMYK is converted, and the EXIF orientation ignored.

    Raises:
      ArgumentError: the content is not an image, or truncated; `name` is the file's.
    """
    with _opened(io.BytesIO(content), name) as image:
        return image.convert("RGB")


@contextlib.contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Open an image, and turn errors inside into `ArgumentError`."""
    try:
        with open_image(source) as image:
            yield image
    except (ArgumentError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        if isinstance(source, Path):
            empty = source.is_file() and not source.stat().st_size
        else:
            empty = not source.getvalue()
        no_image = isinstance(error, UnidentifiedImageError)
        reason = "is empty" if empty else "is no image" if no_image else f"cannot be read ({error})"
        raise ArgumentError(f"{name} {reason}; repair it, or leave it out.") from error


def center_crop(image: Image.Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Crop the central square, resized to `size` pixels as for ADM's ImageNet.

    The image is halved by averaging (box filter) while its short side is at least twice `size`,
    then resized so that the short side is `size` (bicubic), then cropped.

    Source: Dhariwal & Nichol, 2021 (ADM), their code for class-conditional ImageNet.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.resize(scaled, Image.Resampling.BICUBIC))
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]
