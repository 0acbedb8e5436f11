"""The 1,797 handwritten digits that scikit-learn ships: 8x8, grey, ten classes."""

from typing import Any

import numpy as np

from ict_jax.data.images import Dataset, split_images

SPLIT_SIZES = {"train": 997, "validation": 200, "test": 600}


def load_digits() -> Dataset:
    """Load images uint8 [n, 8, 8, 1], grey levels 0..16 rescaled to 0..255.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998
    (the test part), CC BY 4.0, as packaged by scikit-learn.
    """
    import sklearn.datasets  # late: it takes a second, and most data is not from there

    digits: Any = sklearn.datasets.load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    parts = split_images(images, digits.target.astype(np.int32), SPLIT_SIZES)
    return Dataset("digits", **parts, num_classes=10)
