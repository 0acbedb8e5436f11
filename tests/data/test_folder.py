"""A folder of images: classes, cropping as for ADM's ImageNet, and every kind of bad file."""

import numpy as np
import pytest
from PIL import Image

import ict_jax
from ict_jax.data import load_data
from ict_jax.data.preprocess import center_crop


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
    for index in range(3):
        Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / f"{index}.png")
    assert (load(tmp_path).train.images == 255).all()


def cut_off(path):
    save(path)
    path.write_bytes(path.read_bytes()[:500])


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
            "has the mode I;16, expected 8-bit",
        ),
        ("a.png", lambda path: save(path, (1, 1)), "has 1x1 pixels, fewer than the 16 to be made"),
        ("a.gif", animated, "is animated, expected one picture"),
        ("a.png", cut_off, "cannot be read"),
        ("a.png", lambda path: path.write_bytes(b""), "is empty; repair it"),
        ("a.png", lambda path: path.write_bytes(b"text"), "is no image; repair it"),
        ("a.txt", lambda path: path.write_bytes(b"text"), "has the name of no image"),
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
    save(tmp_path / "loose.png")
    with pytest.raises(ict_jax.ArgumentError, match=r"loose.png.* lies beside the folders"):
        load(tmp_path)
    save(tmp_path / "few" / "one.png")
    with pytest.raises(ict_jax.ArgumentError, match="holds 1 images, expected at least one each"):
        load(tmp_path / "few")
    with pytest.raises(ict_jax.ArgumentError, match="give the folder, and the size"):
        load_data("folder", data_dir=str(tmp_path))
