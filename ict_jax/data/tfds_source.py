"""Image sets prepared by TensorFlow Datasets or by `prepare`, read without TensorFlow."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, ImageSet, check_labels, split_test

MEMORY_BYTES = 2**31
"""Training splits up to this size are read into memory unless the config says otherwise."""

DOWNSAMPLED = "imagenet_resized"
"""A set of TFDS that is called ImageNet 64x64 too and is not the one of the papers."""


class StoredSet:
    """Images and labels of a split on disk, decoded when they are read; threads may share one."""

    def __init__(self, name: str, source: Any, num_classes: int):
        """Looks at the first example.

        Args:
          name: for messages.
          source: random access to dicts with `image`, encoded, and `label`.
          num_classes: of the set.

        Raises:
          ArgumentError: the set is empty, or lacks one of the two features.
        """
        first = source[0] if len(source) else {}
        require(
            {"image", "label"} <= set(first),
            f"{name} has the features {sorted(first)}, expected 'image' and 'label'; choose "
            "another set.",
        )
        self._name = name
        self._source = source
        self._num_classes = num_classes
        self.size = len(source)
        self.image_shape = self._example(0)[0].shape

    def read(self, index: np.ndarray) -> ImageSet:
        """The examples at integer indices [m], in that order.

        Raises:
          ArgumentError: an image has another shape than the first, or a label is no class.
        """
        images = np.empty((len(index), *self.image_shape), np.uint8)
        labels = np.empty(len(index), np.int64)
        for row, place in enumerate(index):
            image, labels[row] = self._example(int(place))
            require(
                image.shape == self.image_shape and image.dtype == np.uint8,
                f"image {place} of {self._name} is {image.dtype} of shape {image.shape} and the "
                f"first has {self.image_shape}, expected uint8 and one shape for all; resize them "
                "when preparing the set.",
            )
            images[row] = image
        check_labels(labels, self._num_classes, self._name)
        return ImageSet(images, labels.astype(np.int32))

    def _example(self, place: int) -> tuple[np.ndarray, int]:
        try:
            example = self._source[place]
            with Image.open(io.BytesIO(example["image"])) as image:
                pixels = np.asarray(image)
        except Exception as error:  # array_record and Pillow raise many kinds for damaged files
            raise ArgumentError(
                f"image {place} of {self._name} cannot be read ({_first_line(error)}); the set is "
                "damaged, prepare it again."
            ) from error
        return (pixels if pixels.ndim == 3 else pixels[..., None]), example["label"]

    def read_all(self) -> ImageSet:
        """The whole split in memory."""
        parts = np.array_split(np.arange(self.size), math.ceil(self.size / 1000))
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(self.read, parts))
        return ImageSet(*(np.concatenate(arrays) for arrays in zip(*read, strict=True)))


def load_tfds(name: str, *, data_dir: str | None = None, in_memory: bool | None = None) -> Dataset:
    """A set of TFDS with the split `train` and `test`, `validation` or both.

    Where one of these is missing, it is cut off the other.

    The set must have been prepared with `file_format="array_record"`, which is read by random
    access; it must have the features `image` (one size) and `label`.

    Args:
      name: of the set.
      data_dir: where it was prepared; default: where TFDS puts its sets.
      in_memory: whether to read the training images now; otherwise each batch is read from disk.
        None: if they take at most 2 GiB.

    Raises:
      ArgumentError: the set is not prepared there, or its features do not fit.
    """
    import tensorflow_datasets as tfds

    what = f"data.name='tfds:{name}'"
    if name.startswith(DOWNSAMPLED):
        logging.warning(
            "%s is the ImageNet of Chrabaszcz et al., 2017, resized without cropping; "
            "CM, iCT and their scores are of another ImageNet 64x64, which prepare makes.",
            what,
        )
    encoded = {"image": tfds.decode.SkipDecoding()}  # decoded here, by Pillow
    try:
        builder: Any = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        held_out = [split for split in ("validation", "test") if split in builder.info.splits]
        num_classes = int(builder.info.features["label"].num_classes)
        train, *others = (
            StoredSet(what, builder.as_data_source(split, decoders=encoded), num_classes)
            for split in ("train", *(held_out or ["test"]))
        )
    except ArgumentError:
        raise
    except Exception as error:  # TFDS raises many kinds for what is missing or damaged
        raise ArgumentError(
            f"{what} was not found prepared as array_record, with the splits "
            f"'train' and 'test', in {data_dir or 'the default directory of TFDS'} "
            f"({_first_line(error)}); give its directory as config.data.data_dir, or make it with "
            "ict_jax.cli.prepare."
        ) from error
    if in_memory is None:
        in_memory = train.size * math.prod(train.image_shape) <= MEMORY_BYTES
    held = [other.read_all() for other in others]
    validation, test = held if len(held) == 2 else split_test(*held)
    return Dataset(
        f"tfds:{name}", train.read_all() if in_memory else train, validation, test, num_classes
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
