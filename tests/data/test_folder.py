"""A folder of images: classes, cropping as for ADM's ImageNet, and every kind of bad file."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import ict_jax
from ict_jax.data import load_data
from ict_jax.data.preprocess import center_crop, decode, decode_as_adm


def save(path, size=(40, 32), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0], *{"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode])
    Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(path)


def tree(root, count=4):
    for label, name in enumerate(("ant", "bee")):
        for index in range(count):
            save(root / name / f"{index}.png", seed=10 * label + index)
    return root


def load(root, size=16):
    return load_data("folder", data_dir=str(root), image_size=size)


def test_classes_are_the_subfolders(tmp_path):
    data = load(tree(tmp_path, 10))
    assert data.image_shape == (16, 16, 3) and data.num_classes == 2
    sizes = [len(part.images) for part in (data.train, data.validation, data.test)]
    assert sizes == [16, 2, 2]
    with Image.open(tmp_path / "bee" / "3.png") as image:
        expected = center_crop(image, 16)
    parts = (data.train, data.validation, data.test)
    labels = [
        label
        for part in parts
        for image, label in zip(part.images, part.labels, strict=True)
        if (image == expected).all()
    ]
    assert labels == [1]
    again = load(tmp_path)
    np.testing.assert_array_equal(again.train.images, data.train.images)


def test_without_subfolders_there_is_one_class(tmp_path):
    for index in range(4):
        save(tmp_path / f"{index}.webp", seed=index)
    (tmp_path / ".hidden").write_text("")
    data = load(tmp_path)
    assert data.num_classes == 1 and set(data.train.labels) == {0}


def test_crop_is_that_of_adm():
    """Box-halved to the size itself, the rest is the identity; long sides lose both ends."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 400, 3), np.uint8)
    expected = pixels.astype(np.float64)
    for _ in range(2):  # 256 -> 128 -> 64, first the width, then the height, rounded each time
        h, w = expected.shape[:2]
        expected = np.floor(expected.reshape(h, w // 2, 2, 3).mean(2) + 0.5)
        expected = np.floor(expected.reshape(h // 2, 2, w // 2, 3).mean(1) + 0.5)
    np.testing.assert_array_equal(center_crop(Image.fromarray(pixels), 64), expected[:, 18:82])
    slope = np.tile(np.linspace(0, 255, 100)[:, None, None], (1, 90, 3)).astype(np.uint8)
    cropped = center_crop(Image.fromarray(slope), 60)  # 90 -> 60, not halved first
    assert cropped.shape == (60, 60, 3)
    assert np.abs(cropped[:, 0, 0] - (np.arange(60) + 3.5) * 255 / 67).max() < 4


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("RGB", "bmp")])
def test_other_kinds_become_rgb(tmp_path, mode, suffix):
    tree(tmp_path)
    save(tmp_path / "ant" / f"x.{suffix}", mode=mode)
    assert load(tmp_path).image_shape == (16, 16, 3)


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("RGB", (20, 20), (9, 8, 7)).save(tmp_path / "rgb.png", transparency=(9, 8, 7))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([9, 8, 7] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    for path in tmp_path.iterdir():
        assert (np.asarray(decode(path, 1)) == 255).all(), path


def test_own_photos_are_turned_upright_and_those_of_imagenet_are_not(tmp_path):
    """As their camera noted; ADM's code does not heed it."""
    image = Image.fromarray(np.arange(40 * 20 * 3, dtype=np.uint8).reshape(20, 40, 3))
    orientation = image.getexif()
    orientation[0x0112] = 6  # turn clockwise
    image.save(tmp_path / "a.png", exif=orientation)
    upright = np.rot90(np.asarray(image), -1)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 1), upright)
    as_adm = decode_as_adm((tmp_path / "a.png").read_bytes(), "a.png")
    np.testing.assert_array_equal(as_adm, image)


def test_photos_of_phones_hold_a_preview_too(tmp_path):
    image = Image.new("RGB", (40, 40), "red")
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image.resize((20, 20))])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.n_frames == 2
    assert decode(tmp_path / "a.jpg", 1).size == (40, 40)


def test_whatever_a_damaged_file_raises_it_is_named(tmp_path, monkeypatch):
    save(tmp_path / "a.png")

    def broken(*arguments):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", broken)
    with pytest.raises(ict_jax.ArgumentError, match=r"a.png cannot be read \(required argument"):
        decode(tmp_path / "a.png", 1)


def test_which_files_are_taken(tmp_path):
    tree(tmp_path / "set")
    save(tmp_path / "elsewhere" / "deep" / "a.png", seed=77)
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "bee" / "more")
    save(tmp_path / "set" / "bee" / ".thumbnails" / "b.png")
    save(tmp_path / "set" / ".git" / "c.png")
    data = load(tmp_path / "set")
    assert sum(part.size for part in (data.train, data.validation, data.test)) == 9
    assert data.num_classes == 2
    os.symlink(tmp_path / "set", tmp_path / "set" / "bee" / "circle")
    with pytest.raises(ict_jax.ArgumentError, match="leads in a circle: remove it"):
        load(tmp_path / "set")


def test_names_that_are_no_text_are_refused(tmp_path):
    tree(tmp_path)
    os.rename(tmp_path / "ant" / "1.png", os.fsencode(tmp_path / "ant") + b"/\xe9.png")
    with pytest.raises(ict_jax.ArgumentError, match=r"ant/.udce9.png is not UTF-8; rename"):
        load(tmp_path)


def bicubic(pixels, size):
    """Rows of an image resized in float64: Keys' kernel with a = -0.5, widened when reducing."""
    scale = len(pixels) / size
    width = max(scale, 1.0)
    centers = (np.arange(size) + 0.5) * scale
    t = np.abs(np.arange(len(pixels)) + 0.5 - centers[:, None]) / width
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    weights /= weights.sum(1, keepdims=True)
    return np.clip(np.rint(np.tensordot(weights, pixels, 1)), 0, 255)


def test_the_last_resize_is_bicubic():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 90, 3), np.uint8)
    wide = bicubic(pixels.swapaxes(0, 1).astype(float), 60).swapaxes(0, 1)
    expected = bicubic(wide, 67)[3:63]
    assert np.abs(center_crop(Image.fromarray(pixels), 60) - expected).max() <= 1


def cut_off(path):
    save(path)
    path.write_bytes(path.read_bytes()[:500])


def deep(path, color):
    """A PNG of 16 bits in a colour type of the format: 2 is RGB, 6 RGBA."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    row = bytes(1 + 20 * 2 * {2: 3, 6: 4}[color])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 16, color, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(20 * row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + content)


def animated(path):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.jpg", lambda path: save(path, mode="CMYK"), "has the mode CMYK, expected 8-bit"),
        (
            "a.png",
            lambda path: Image.fromarray(np.zeros((20, 20), np.uint16)).save(path),
            "has the mode I;16 of 16 bits, expected 8-bit",
        ),
        ("a.png", lambda path: save(path, (1, 1)), "has 1x1 pixels, fewer than the target size 16"),
        ("a.gif", animated, "is animated or has several pages, expected one image"),
        ("a.png", cut_off, "cannot be read"),
        ("a.png", lambda path: path.write_bytes(b""), "is empty; repair it"),
        ("a.png", lambda path: path.write_bytes(b"text"), "is no image; repair it"),
        ("a.png", lambda path: deep(path, 2), "has the mode RGB of 16 bits, expected 8-bit"),
        ("a.png", lambda path: deep(path, 6), "has the mode RGBA of 16 bits, expected 8-bit"),
        (
            "a.ppm",
            lambda path: path.write_bytes(b"P6 20 20 65535\n" + bytes(2400)),
            "has the mode RGB of 16 bits, expected 8-bit",
        ),
        ("a.png", lambda path: path.symlink_to("/nowhere.png"), "is a link that leads nowhere"),
        ("a.txt", lambda path: path.write_bytes(b"text"), "does not have the suffix of an image"),
    ],
)
def test_bad_files_are_named(tmp_path, name, make, message):
    make(tree(tmp_path) / "bee" / name)
    with pytest.raises(ict_jax.ArgumentError, match=message) as error:
        load(tmp_path)
    assert str(error.value).count(f"bee/{name}") == 1


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match="none is not a folder"):
        load(tmp_path / "none")
    with pytest.raises(ict_jax.ArgumentError, match="holds no images"):
        load(tmp_path)
    (tree(tmp_path) / "cat").mkdir()
    with pytest.raises(ict_jax.ArgumentError, match="cat holds no images; remove that class"):
        load(tmp_path)
    (tmp_path / "cat").rmdir()
    for split in ("train", "test"):
        save(tmp_path / "splits" / split / "a.png")
    with pytest.raises(
        ict_jax.ArgumentError, match=r"holds the splits \['test', 'train'\], expected"
    ):
        load(tmp_path / "splits")
    shutil.rmtree(tmp_path / "splits")
    save(tmp_path / "loose.png")
    with pytest.raises(ict_jax.ArgumentError, match=r"loose.png.* lies beside the folders"):
        load(tmp_path)
    save(tmp_path / "few" / "one.png")
    with pytest.raises(ict_jax.ArgumentError, match="holds 1 images, expected at least one each"):
        load(tmp_path / "few")
    with pytest.raises(ict_jax.ArgumentError, match="give the folder, and the size"):
        load_data("folder", data_dir=str(tmp_path))
