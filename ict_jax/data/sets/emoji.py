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
DIRECTORIES = {FONT: "/usr/share/fonts/truetype/noto", LIST: "/usr/share/unicode/emoji"}
"""Where Debian's packages fonts-noto-color-emoji and unicode-data put them."""

HEIGHT = 109
"""The one size in which the font has its bitmaps, of 136 by 128 pixels."""
CANVAS = 136
ADVANCE = 136
"""Width of one picture at most; a sequence that the font does not know is drawn as several."""

SKIN_TONES = range(0x1F3FB, 0x1F400)
HELD_OUT = {"validation": 0.1, "test": 0.2}
"""Shares of the pictures."""


def load_emoji(*, data_dir: str | None = None, image_size: int | None = None) -> Dataset:
    """Images uint8 [n, size, size, 3] on white, with the group of the Unicode list as class.

    One picture of each emoji: the variants in skin tone, which would make up half of the set, are
    left out. A fixed tenth is held out for validation and a fifth for test.

    Args:
      data_dir: holds NotoColorEmoji.ttf and emoji-test.txt; default: those of Debian's packages.
      image_size: height and width, 16 to 128; default 32.

    Raises:
      ArgumentError: a file is missing or is another, or image_size is out of its range.

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
    draw = _drawer(paths[FONT])
    drawn = [(draw(text, size), label) for text, label in zip(sequences, labels, strict=True)]
    known = [(picture, label) for picture, label in drawn if picture is not None]
    classes = np.array([label for _, label in known], np.int32)
    require(
        set(classes) == set(range(len(groups))),
        f"{paths[FONT]} has pictures of {len(set(classes))} of the {len(groups)} groups of "
        f"{paths[LIST]}; get both again.",
    )
    distinct = len({picture.tobytes() for picture, _ in known})
    require(
        2 * distinct > len(known),
        f"{paths[FONT]} draws {len(known)} emoji as {distinct} different pictures; it is another "
        "font: get Debian's fonts-noto-color-emoji.",
    )
    held_out = {split: round(share * len(known)) for split, share in HELD_OUT.items()}
    sizes = {"train": len(known) - sum(held_out.values()), **held_out}
    parts = split_images(np.stack([picture for picture, _ in known]), classes, sizes)
    return Dataset(f"emoji {size}x{size}", **parts, num_classes=len(groups))


def read_list(path: Path) -> tuple[list[str], list[int], list[str]]:
    """The sequences of Unicode's list without skin tones, their groups, and the groups' names."""
    sequences: list[str] = []
    labels: list[int] = []
    groups: list[str] = []
    group = ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not Unicode's {LIST} ({error}); get it again.") from error
    for line in lines:
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        found = re.match(r"((?:[0-9A-F]{4,5} ?)+?)\s*; fully-qualified\b", line)
        codes = [int(code, 16) for code in found[1].split()] if found else []
        if not codes or any(code in SKIN_TONES for code in codes):
            continue
        if group not in groups:
            groups.append(group)
        sequences.append("".join(map(chr, codes)))
        labels.append(groups.index(group))
    require(bool(sequences), f"{path} lists no emoji, expected Unicode's {LIST}; get it again.")
    return sequences, labels, groups


def _drawer(path: Path) -> Callable[[str, int], UInt8[np.ndarray, "size size 3"] | None]:
    """`draw(text, size)` -> the picture, or None for a sequence that is not one picture."""
    require(
        bool(features.check("raqm")),
        "this Pillow cannot join emoji sequences (it lacks raqm); install a wheel of Pillow.",
    )
    try:
        # From its content: of a path that is no font, Pillow looks for the name elsewhere.
        content = io.BytesIO(path.read_bytes())
        font = ImageFont.truetype(content, HEIGHT, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be used as a font of {HEIGHT} pixels ({error}); get Debian's "
            "fonts-noto-color-emoji."
        ) from error

    def draw(text: str, size: int) -> UInt8[np.ndarray, "size size 3"] | None:
        if font.getlength(text) > ADVANCE:
            return None
        canvas = Image.new("RGB", (CANVAS, CANVAS), "white")
        ImageDraw.Draw(canvas).text((0, 4), text, font=font, embedded_color=True)
        return center_crop(canvas, size)

    return draw
