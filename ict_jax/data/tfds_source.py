"""Image sets prepared by TensorFlow Datasets, read without TensorFlow."""

from typing import Any

import numpy as np

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.images import Dataset, ImageSet, split_test


def load_tfds(name: str, *, data_dir: str | None = None) -> Dataset:
    """Reads the splits `train` and `test` of a TFDS set wholly into memory.

    The set must have been prepared with `file_format="array_record"`, which is read by random
    access; it must have the features `image` (one size) and `label`.

    Raises:
      ArgumentError: the set is not prepared there, or its features do not fit.
    """
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        train, test = (_read(name, builder.as_data_source(split)) for split in ("train", "test"))
        num_classes = builder.info.features["label"].num_classes
    except (
        tfds.core.DatasetNotFoundError,
        AssertionError,  # not prepared there
        NotImplementedError,  # prepared in another format
        FileNotFoundError,
        KeyError,  # no such split
        AttributeError,  # labels that are no classes
    ) as error:
        raise ArgumentError(
            f"data.name='tfds:{name}' was not found prepared as array_record, with the splits "
            f"'train' and 'test', in {data_dir or 'the default directory of TFDS'} "
            f'({_first_line(error)}); prepare it there with file_format="array_record".'
        ) from error
    validation, test = split_test(test)
    return Dataset(f"tfds:{name}", train, validation, test, num_classes)


def _read(name: str, source: Any) -> ImageSet:
    examples = [source[index] for index in range(len(source))]
    require(
        bool(examples) and {"image", "label"} <= set(examples[0]),
        f"data.name='tfds:{name}' has the features {sorted(examples[0]) if examples else []}, "
        "expected 'image' and 'label'; choose another set.",
    )
    shapes = {example["image"].shape for example in examples}
    require(
        len(shapes) == 1,
        f"data.name='tfds:{name}' has images of {len(shapes)} sizes, for instance "
        f"{sorted(shapes)[:2]}, expected one; resize them when preparing the set.",
    )
    return ImageSet(
        np.stack([example["image"] for example in examples]),
        np.array([example["label"] for example in examples], np.int32),
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
