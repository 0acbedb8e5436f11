"""Files of a TFDS set, records and metadata, written without TensorFlow."""

import functools
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from ict_jax.data.prepare.shards import ShardNote, count_records, shard_path

METADATA = ("dataset_info.json", "features.json", "label.labels.txt")


class Serializer(NamedTuple):
    """`serializer(name, png, label)` -> a record; picklable."""

    size: int
    class_names: tuple[str, ...]

    def __call__(self, name: str, png: io.BytesIO, label: int) -> bytes:
        features = make_features(self.size, self.class_names)
        example = features.encode_example({"id": name, "image": png, "label": label})
        record = ExampleSerializer(features.get_serialized_info()).get_tf_example(example)
        return record.SerializeToString(deterministic=True)  # the same bytes in every process


@functools.cache
def make_features(size: int, class_names: tuple[str, ...]) -> Any:
    """Make the features `id` (text), `image` (PNG) and `label`."""
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(class_names)),
        }
    )


def metadata_digests(directory: Path) -> dict[str, str]:
    """Compute the SHA-256 of each metadata file of a set."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in METADATA}


def find_damage(directory: Path, name: str, digests: dict[str, str] | None) -> str:
    """Describe what is wrong with the files of a set; "" for nothing.

    The digests are its `metadata_digests` when it was written; None for sets that lack them.
    """
    try:
        found = metadata_digests(directory)
        changed = [
            file for file in METADATA if digests is not None and digests[file] != found[file]
        ]
        if changed:
            return f"{changed[0]} has changed"
        info, _ = (json.loads((directory / file).read_bytes()) for file in METADATA[:2])
        lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its description cannot be read, {type(error).__name__}: {error}"
    return find_damaged_shard(
        (shard_path(directory, name, split, index, len(counts)), int(count))
        for split, counts in lengths.items()
        for index, count in enumerate(counts)
    )


def find_damaged_shard(shards: Iterable[tuple[Path, int]]) -> str:
    """Describe the first shard that has another number of records than given; "" for none."""
    for path, expected in shards:
        found = count_records(path)
        if found != expected:
            return f"{path.name} holds {found or 'no readable'} records, expected {expected}"
    return ""


def write_metadata(
    directory: Path,
    name: str,
    version: str,
    size: int,
    class_names: list[str],
    shards: dict[str, list[ShardNote]],
) -> None:
    """Write dataset_info.json and the files that describe the features."""
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
        for split, notes in shards.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=make_features(size, tuple(class_names)),
        split_infos=splits,
        version=version,
        check_data=False,  # which would need TensorFlow
    )
