"""The files of a TFDS set: records, names, metadata; written without TensorFlow."""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from ict_jax.prepare.shards import Written

CIFAR10_VERSION = "3.0.2"
"""Of the builder of TFDS, which then reads the set as its own."""


class Serializer(NamedTuple):
    """`serializer(name, png, label)` -> a record; can be sent to another process."""

    size: int
    class_names: tuple[str, ...]

    def __call__(self, name: str, png: io.BytesIO, label: int) -> bytes:
        features = make_features(self.size, self.class_names)
        example = features.encode_example({"id": name, "image": png, "label": label})
        record = ExampleSerializer(features.get_serialized_info()).get_tf_example(example)
        return record.SerializeToString(deterministic=True)  # the same bytes in every process


@functools.cache
def make_features(size: int, class_names: tuple[str, ...]) -> Any:
    """Features `id` (text), `image` (PNG) and `label`."""
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(class_names)),
        }
    )


def known_names() -> list[str]:
    """Sets that TFDS has builders for, which it prefers to files of the same name."""
    return tfds.list_builders(with_community_datasets=False)


def namer(name: str) -> Callable[[str, int, int], str]:
    """`filename(split, index, number)` of the shards of a set."""
    return lambda split, index, number: f"{name}-{split}.array_record-{index:05d}-of-{number:05d}"


def write_metadata(
    directory: Path,
    name: str,
    version: str,
    size: int,
    class_names: list[str],
    written: dict[str, list[Written]],
) -> None:
    """Writes dataset_info.json and the descriptions of the features."""
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[note.count for note in notes],
            num_bytes=sum(note.num_bytes for note in notes),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=epath.Path(directory),
                dataset_name=name,
                split=split,
                filetype_suffix="array_record",
            ),
        )
        for split, notes in written.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=make_features(size, tuple(class_names)),
        split_infos=splits,
        version=version,
        check_data=False,  # which would need TensorFlow
    )
