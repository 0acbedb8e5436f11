"""Unicode's list, the images of Debian's font, and what is missing."""

import numpy as np
import pytest

import ict_jax
from ict_jax.data import load_data
from ict_jax.data.sets.emoji import read_list

LIST = """# group: Smileys & Emotion
# subgroup: face-smiling
1F600                      ; fully-qualified     # 😀 E1.0 grinning face
263A FE0F                  ; fully-qualified     # ☺️ E0.6 smiling face
263A                       ; unqualified         # ☺ E0.6 smiling face
# group: People & Body
1F44B                      ; fully-qualified     # 👋 E0.6 waving hand
1F44B 1F3FB                ; fully-qualified     # 👋🏻 E1.0 waving hand: light skin tone
1F9D1 200D 1F373           ; fully-qualified     # 🧑‍🍳 E12.1 cook
# group: Component
1F3FB                      ; component           # 🏻 E1.0 light skin tone
"""


def test_the_list_is_read_without_skin_tones(tmp_path):
    (tmp_path / "list").write_text(LIST)
    sequences, labels, groups = read_list(tmp_path / "list")
    assert sequences == ["😀", "☺️", "👋", "🧑‍🍳"]
    assert labels == [0, 0, 1, 1] and groups == ["Smileys & Emotion", "People & Body"]


def test_mistakes(tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=r"NotoColorEmoji.ttf does not exist; install"):
        load_data("emoji", data_dir=str(tmp_path))
    (tmp_path / "NotoColorEmoji.ttf").write_bytes(b"no font")
    (tmp_path / "emoji-test.txt").write_text("nothing")
    with pytest.raises(ict_jax.ArgumentError, match="lists no emoji"):
        load_data("emoji", data_dir=str(tmp_path))
    (tmp_path / "emoji-test.txt").write_text(LIST)
    with pytest.raises(ict_jax.ArgumentError, match="cannot be used as a font of 109 pixels"):
        load_data("emoji", data_dir=str(tmp_path))
    (tmp_path / "emoji-test.txt").write_text(LIST, encoding="utf-16")
    with pytest.raises(ict_jax.ArgumentError, match=r"is not Unicode's emoji-test.txt"):
        load_data("emoji", data_dir=str(tmp_path))
    with pytest.raises(ict_jax.ArgumentError, match="image_size=200 must be from 16 to 128"):
        load_data("emoji", image_size=200)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
def test_images_of_the_font(size):
    """Needs Debian's packages fonts-noto-color-emoji and unicode-data."""
    data = load_data("emoji", image_size=size)
    parts = (data.train, data.validation, data.test)
    assert data.image_shape == (size, size, 3) and data.num_classes == 9
    every = np.concatenate([part.images for part in parts])
    assert len(every) > 1800 and len(np.unique(every, axis=0)) > 0.99 * len(every)
    assert (every[:, 0, 0] == 255).mean() > 0.99  # corners are white
    colourful = (every.max(-1).astype(int) - every.min(-1)).max((1, 2)) > 50
    assert colourful.mean() > 0.8
    assert all(set(part.labels) == set(range(9)) for part in parts)
    again = load_data("emoji", image_size=size)
    np.testing.assert_array_equal(again.test.images, data.test.images)


@pytest.mark.slow
def test_debians_fashion_mnist():
    """Needs Debian's package dataset-fashion-mnist."""
    data = load_data("fashion_mnist")
    assert [part.size for part in (data.train, data.validation, data.test)] == [60_000, 1000, 9000]
    assert list(np.bincount(data.train.labels)) == [6000] * 10
