"""Conversion to uint8 and grids."""

import jax
import numpy as np
from PIL import Image

from ict_jax.evaluation.grids import image_grid, save_png, to_uint8


def test_uint8_truncates_like_the_reference():
    x = np.array([-2, -1, -0.999, 0, 0.999, 1, 3], np.float32)
    for found in (to_uint8(x), jax.jit(to_uint8)(x)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, [0, 0, 0, 127, 254, 255, 255])


def test_grid_places_images_in_rows_and_enlarges_small_ones(tmp_path):
    images = np.stack([np.full((8, 8, 1), 10 * i, np.uint8) for i in range(5)])
    grid = image_grid(images)
    assert grid.shape == (2 * 33 + 1, 3 * 33 + 1, 3)
    assert (grid[1:33, 34:66] == 10).all() and (grid[34:66, 1:33] == 30).all()
    assert (grid[34:, 67:] == 128).all()  # no sixth image
    colour = image_grid(np.zeros((1, 64, 64, 3), np.uint8))
    assert colour.shape == (66, 66, 3)
    save_png(tmp_path / "a" / "grid.png", grid)
    with Image.open(tmp_path / "a" / "grid.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid)
