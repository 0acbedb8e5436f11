"""One image file to the pixels of a training example."""

import io
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from ict_jax.core.errors import ArgumentError, require

COLOUR_MODES = ("RGB", "RGBA", "P", "L", "LA", "1")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow decodes itself; others, as EPS, it hands to programs, whatever a file is called."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """`PIL.Image.open` for files that others made: of `FORMATS` alone."""
    return Image.open(source, formats=FORMATS)


def decode(path: Path, smallest: int) -> Image.Image:
    """The RGB image in a file, turned upright; transparent pixels become white.

    Raises:
      ArgumentError: no image, cut off, several images, of 16 bits, in the colours of printing, or
        its short side has fewer than `smallest` pixels.
    """
    try:
        with open_image(path) as opened:
            _check(opened, path, smallest)
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("RGBA", "LA", "P") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(white, image).convert("RGB")
            return image.convert("RGB")
    except (ArgumentError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        _refuse(str(path), path.is_file() and not path.stat().st_size, error)


def _check(image: Image.Image, path: Path, smallest: int) -> None:
    # Phones add a preview to a photo and call it MPO; its first image is the photo.
    require(
        getattr(image, "n_frames", 1) == 1 or image.format == "MPO",
        f"{path} is animated or has several pages, expected one picture; keep one of them.",
    )
    # How the file holds its pixels: Pillow drops bits of 16 and says RGB all the same.
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
        f"{path} has {image.width}x{image.height} pixels, fewer than the {smallest} to be "
        "made; leave it out, or choose a smaller size.",
    )


def decode_as_adm(content: bytes, name: str) -> Image.Image:
    """The RGB image in the content of a file, of any kind and size, as ADM's code takes it.

    Colours of printing are converted, and the orientation that a camera noted is not heeded.

    Raises:
      ArgumentError: no image, or cut off; `name` is the file's.
    """
    try:
        with open_image(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        _refuse(name, not content, error)


def _refuse(name: str, empty: bool, error: Exception) -> NoReturn:
    no_image = isinstance(error, UnidentifiedImageError)
    reason = "is empty" if empty else "is no image" if no_image else f"cannot be read ({error})"
    raise ArgumentError(f"{name} {reason}; repair it, or leave it out.") from error


def center_crop(image: Image.Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square of `size` pixels from the middle, resized as for ADM's ImageNet.

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
