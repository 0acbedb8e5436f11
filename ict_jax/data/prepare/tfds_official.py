"""Sets of TFDS's own, prepared by TFDS, which needs TensorFlow for it."""

import glob
import importlib.util
from pathlib import Path
from typing import Any

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.prepare import tfds_format
from ict_jax.data.sets.tfds import set_directory
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import is_remote, to_local_path


def prepare_tfds(source: str | Path | None, out: str | Path, *, name: str) -> Path:
    """Prepare a set of TFDS in the array_record format.

    Args:
      source: directory of the files that TFDS would download, under their original names;
        nothing is downloaded then. None: download them.
      out: data directory that gets the set.
      name: name in TFDS, for instance `fashion_mnist`.

    Raises:
      ArgumentError: TensorFlow is not installed, the name is unknown, `out` is a pattern to TFDS,
        or a file is missing, wrong or cannot be downloaded.
    """
    set_directory(name)
    require(
        glob.escape(str(out)) == str(out),
        f"--out={out} has one of the characters [ * ?, which TFDS takes for patterns; give a "
        "directory with another name.",
    )
    require(
        importlib.util.find_spec("tensorflow") is not None,
        f"preparing {name!r} is done by TensorFlow Datasets, which needs TensorFlow for it: pip "
        "install 'ict_jax[tfds]'; reading prepared sets does not need it.",
    )
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        builder: Any = tfds.builder(name, data_dir=str(out), file_format="array_record")
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ArgumentError(f"--name={name} is not a set of TFDS; see its catalogue.") from error
    if source is not None:
        source = to_local_path(source, "--source")
        for url, info in builder.url_infos.items():
            path = source / info.filename
            require(path.is_file(), f"{path} does not exist; get {url} ({info.size:,} bytes).")
    say(f"preparing {name} with TFDS")
    manual_dir = None if source is None else str(source)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except (
        requests.exceptions.RequestException,
        NonMatchingChecksumError,
        AssertionError,  # files that the user must provide are missing
    ) as error:
        raise ArgumentError(
            f"TFDS cannot prepare {name} ({str(error).strip().splitlines()[0]}); get its files and "
            "give their directory as --source."
        ) from error
    for split in [] if is_remote(out) else builder.info.splits.values():
        # TFDS does not check the shards of sets that exist already.
        damage = tfds_format.find_damaged_shard(
            zip(map(Path, split.filepaths), split.shard_lengths, strict=True)
        )
        require(
            not damage,
            f"{builder.data_dir} is no longer whole ({damage}); remove that directory, and run the "
            "same command again.",
        )
    return Path(builder.data_dir)
