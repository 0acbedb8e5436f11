"""Image sets prepared by TensorFlow Datasets or by `prepare`, read without TensorFlow."""

import contextlib
import io
import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, ImageSet, check_labels, split_test
from ict_jax.data.preprocess import open_image
from ict_jax.runtime.storage import safe_relative_path

MEMORY_BYTES = 2**31  # size up to which a training split is read into memory by default
DOWNSAMPLED = "imagenet_resized"  # also called ImageNet 64x64, but not the one in the papers


class StoredSet:
    """Images and labels of a split on disk, decoded on reading; thread-safe."""

    def __init__(self, name: str, source: Any, num_classes: int):
        """Open a source of dicts with `image`, encoded, and `label`; `name` is for messages.

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
        """Read the examples at integer indices [m], in that order.

        Raises:
          ArgumentError: an image differs in shape from the first, or a label is no class.
        """
        images = np.empty((len(index), *self.image_shape), np.uint8)
        labels = np.empty(len(index), np.int64)
        for row, position in enumerate(index):
            image, labels[row] = self._example(int(position))
            require(
                image.shape == self.image_shape and image.dtype == np.uint8,
                f"image {position} of {self._name} is {image.dtype} of shape {image.shape} and the "
                f"first has {self.image_shape}, expected uint8 and one shape for all; resize them "
                "when preparing the set.",
            )
            images[row] = image
        check_labels(labels, self._num_classes, self._name)
        return ImageSet(images, labels.astype(np.int32))

    def _example(self, position: int) -> tuple[np.ndarray, int]:
        try:
            example = self._source[position]
            with open_image(io.BytesIO(example["image"])) as image:
                pixels = np.asarray(image)
        except Exception as error:  # array_record and Pillow raise many kinds for damaged files
            raise ArgumentError(
                f"image {position} of {self._name} cannot be read ({_first_line(error)}); the set "
                "is damaged, prepare it again."
            ) from error
        return (pixels if pixels.ndim == 3 else pixels[..., None]), example["label"]

    def read_all(self) -> ImageSet:
        """Read the whole split into memory."""
        parts = np.array_split(np.arange(self.size), math.ceil(self.size / 1000))
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(self.read, parts))
        return ImageSet(*(np.concatenate(arrays) for arrays in zip(*read, strict=True)))


def load_tfds(name: str, *, data_dir: str | None = None, in_memory: bool | None = None) -> Dataset:
    """Load a set of TFDS with the splits `train` and `test`, `validation` or both.

    If one of the latter is missing, it is split off the other. The set must have been prepared
    with `file_format="array_record"`, and have the features `image` (of one size) and `label`.

    Args:
      name: name of the set.
      data_dir: data directory of the set; default: that of TFDS.
      in_memory: read the training images now; otherwise each batch is read from disk. None: if
        they take at most 2 GiB.

    Raises:
      ArgumentError: the set is not prepared there, or its features do not fit.
    """
    import tensorflow_datasets as tfds

    what = f"data.name='tfds:{name}'"
    set_directory(name)
    if name.startswith(DOWNSAMPLED):
        logging.warning(
            "%s is the ImageNet of Chrabaszcz et al., 2017, resized without cropping; "
            "CM, iCT and their scores are of another ImageNet 64x64, which prepare makes.",
            what,
        )
    encoded = {"image": tfds.decode.SkipDecoding()}  # decoded here, by Pillow
    try:
        with _registered_features_only(what):
            builder: Any = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        held_out = [split for split in ("validation", "test") if split in builder.info.splits]
        num_classes = int(builder.info.features["label"].num_classes)
        splits = ("train", *(held_out or ["test"]))
        # TFDS takes the config and the file names from the set's own metadata: check them.
        if data_dir is not None:
            safe_relative_path(
                os.path.relpath(builder.data_dir, os.path.expanduser(data_dir)), what
            )
        for path in (path for split in splits for path in builder.info.splits[split].filepaths):
            safe_relative_path(os.path.relpath(path, builder.data_dir), what)
        train, *others = (
            StoredSet(what, builder.as_data_source(split, decoders=encoded), num_classes)
            for split in splits
        )
    except ArgumentError:
        raise
    except Exception as error:  # TFDS raises many kinds for missing or damaged files
        raise ArgumentError(
            f"{what} was not found prepared as array_record, with the splits "
            f"'train' and 'test', in {data_dir or 'the default directory of TFDS'} "
            f"({_first_line(error)}); give its directory as config.data.data_dir, or make it with "
            "ict_jax.cli.prepare."
        ) from error
    if in_memory is None:
        in_memory = train.size * math.prod(train.image_shape) <= MEMORY_BYTES
    in_ram = [other.read_all() for other in others]
    validation, test = in_ram if len(in_ram) == 2 else split_test(*in_ram)
    return Dataset(
        f"tfds:{name}", train.read_all() if in_memory else train, validation, test, num_classes
    )


def set_directory(name: str) -> str:
    """Return NAME or NAME/CONFIG, the place of a set in its data directory, without a version.

    Raises:
      ArgumentError: another form of name, for which TFDS might run third-party code.
    """
    found = re.fullmatch(r"(\w+(?:/[\w-][\w.-]*)?)(?::[\d.*]+)?", name)
    if found is None:
        raise ArgumentError(
            f"tfds:{name} is no name of a set on disk, expected NAME, NAME/CONFIG or either and "
            ":VERSION, as in tfds:cifar10; choose another."
        )
    return found[1]


@contextlib.contextmanager
def _registered_features_only(what: str) -> Iterator[None]:
    """Keep TFDS from importing feature classes named by a set's files; its own remain usable."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    connector: Any = FeatureConnector
    original = vars(connector)["cls_from_name"]

    def find(cls: Any, name: str) -> Any:
        known = cls._registered_features.get(name)
        require(
            known is not None,
            f"{what} has features of the class {name!r}, which is none of TFDS and was not "
            "imported; choose another set.",
        )
        return known

    connector.cls_from_name = classmethod(find)
    try:
        yield
    finally:
        connector.cls_from_name = original


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
