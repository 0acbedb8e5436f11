"""Emoji drawn from Debian's Noto font: colourful artwork in nine groups."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, features

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, split_images
from ict_jax.data.preprocess import center_crop

FONT = "NotoColorEmoji.ttf"
LIST = "emoji-test.txt"
# Directories of Debian's packages fonts-noto-color-emoji and unicode-data.
DIRECTORIES = {FONT: "/usr/share/fonts/truetype/noto", LIST: "/usr/share/unicode/emoji"}
HEIGHT = 109  # the only size in which the font has its bitmaps, of 136 by 128 pixels
CANVAS = 136
MAX_ADVANCE = 136  # width of one glyph; the font draws unknown sequences as several
SKIN_TONES = range(0x1F3FB, 0x1F400)
HELD_OUT_SHARES = {"validation": 0.1, "test": 0.2}


def load_emoji(*, data_dir: str | None = None, image_size: int | None = None) -> Dataset:
    """Draw images uint8 [n, size, size, 3] on white; the class is the group in Unicode's list.

    Each emoji is drawn once: skin-tone variants, which would make up half of the set, are left
    out. A fixed tenth is held out for validation and a fifth for test.

    Args:
      data_dir: directory of NotoColorEmoji.ttf and emoji-test.txt; default: Debian's.
      image_size: height and width, 16 to 128; default 32.

    Raises:
      ArgumentError: a file is missing or not the expected one, or image_size is out of range.

    Source: Google's Noto Emoji, artwork Apache-2.0, font OFL-1.1; groups: Unicode's emoji list.
    """
    size = 32 if image_size is None else image_size
    require(
        16 <= size <= 128,
        f"data.image_size={size} must be from 16 to 128 for emoji, which the font has in 136x128.",
    )
    paths = {name: Path(data_dir or home) / name for name, home in DIRECTORIES.items()}
    for path in paths.values():
        require(
            path.is_file(),
            f"{path} does not exist; install Debian's packages fonts-noto-color-emoji and "
            f"unicode-data, or put {FONT} and {LIST} in a directory and give it as "
            "config.data.data_dir.",
        )
    sequences, labels, groups = read_list(paths[LIST])
    draw = _load_font(paths[FONT])
    drawn = [(draw(text, size), label) for text, label in zip(sequences, labels, strict=True)]
    images = [image for image, _ in drawn if image is not None]
    classes = np.array([label for image, label in drawn if image is not None], np.int32)
    require(
        set(classes) == set(range(len(groups))),
        f"{paths[FONT]} has images of {len(set(classes))} of the {len(groups)} groups of "
        f"{paths[LIST]}; get both again.",
    )
    distinct = len({image.tobytes() for image in images})
    require(
        2 * distinct > len(images),
        f"{paths[FONT]} draws {len(images)} emoji as {distinct} different images; it is another "
        "font: get Debian's fonts-noto-color-emoji.",
    )
    held_out = {split: round(share * len(images)) for split, share in HELD_OUT_SHARES.items()}
    sizes = {"train": len(images) - sum(held_out.values()), **held_out}
    parts = split_images(np.stack(images), classes, sizes)
    return Dataset(f"emoji {size}x{size}", **parts, num_classes=len(groups))


def read_list(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Read the sequences without skin tones, their groups, and the groups' names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not Unicode's {LIST} ({error}); get it again.") from error
    listed: list[tuple[str, str]] = []
    group = ""
    for line in lines:
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        found = re.match(r"((?:[0-9A-F]{4,5} ?)+?)\s*; fully-qualified\b", line)
        codes = [int(code, 16) for code in found[1].split()] if found else []
        if codes and not any(code in SKIN_TONES for code in codes):
            listed.append(("".join(map(chr, codes)), group))
    require(bool(listed), f"{path} lists no emoji, expected Unicode's {LIST}; get it again.")
    groups = list(dict.fromkeys(group for _, group in listed))
    return [text for text, _ in listed], [groups.index(group) for _, group in listed], groups


def _load_font(path: Path) -> Callable[[str, int], UInt8[np.ndarray, "size size 3"] | None]:
    """Return `draw(text, size)` -> the image, or None for a sequence that is not one glyph."""
    require(
        bool(features.check("raqm")),
        "this Pillow cannot join emoji sequences (it lacks raqm); install a wheel of Pillow.",
    )
    try:
        # Pass the content: for a path that is no font, Pillow would search for its name elsewhere.
        content = io.BytesIO(path.read_bytes())
        font = ImageFont.truetype(content, HEIGHT, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be used as a font of {HEIGHT} pixels ({error}); get Debian's "
            "fonts-noto-color-emoji."
        ) from error

    def draw(text: str, size: int) -> UInt8[np.ndarray, "size size 3"] | None:
        if font.getlength(text) > MAX_ADVANCE:
            return None
        canvas = Image.new("RGB", (CANVAS, CANVAS), "white")
        ImageDraw.Draw(canvas).text((0, 4), text, font=font, embedded_color=True)
        return center_crop(canvas, size)

    return draw
