r"""Makes a set on disk that training reads by random access, without TensorFlow.

  python -m ict_jax.cli.prepare imagenet64 --source=/data/imagenet --out=/data/prepared
  python -m ict_jax.cli.prepare folder --source=/data/photos --image_size=64 --name=photos \
      --out=/data/prepared
  python -m ict_jax.cli.prepare cifar10 --source=/data/downloads --out=/data/prepared
  python -m ict_jax.cli.prepare tfds --name=fashion_mnist --out=/data/prepared

imagenet64  raw ImageNet (ILSVRC 2012), box-halved, bicubic, centre-cropped as ADM does it.
            --source holds train/, with a subfolder per class, or ILSVRC2012_img_train.tar; and
            val/, with subfolders or without, or ILSVRC2012_img_val.tar. Without subfolders give
            --val_labels: one WordNet id per line, or Kaggle's LOC_val_solution.csv.
folder      your own images, a subfolder per class, at any size.
cifar10     the original archive cifar-10-binary.tar.gz, whose checksum is verified.
tfds        a set of TensorFlow Datasets, by TensorFlow (pip install 'ict_jax[tfds]'). With
            --source, a directory of its original files, nothing is downloaded.

Train on it with --config.data.name=tfds:NAME --config.data.data_dir=OUT. A run that was stopped,
even killed, goes on when the same command is run again.
"""

import sys

from absl import flags

from ict_jax.cli import common
from ict_jax.core.errors import ArgumentError, require

SETS = ("imagenet64", "folder", "cifar10", "tfds")
OPTIONS = {
    "imagenet64": ("val_labels", "skip_bad", "workers"),
    "folder": ("name", "image_size", "skip_bad", "workers"),
    "cifar10": ("workers",),
    "tfds": ("name",),
}


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("source", None, "Directory of the original files.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "Data directory that gets the set, in a folder of its own.", flag_values=values
    )
    flags.DEFINE_string(
        "name", None, "Name of the set (folder: default images).", flag_values=values
    )
    flags.DEFINE_integer(
        "image_size", None, "Height and width to make of a folder's images.", flag_values=values
    )
    flags.DEFINE_string(
        "val_labels", None, "Classes of ImageNet's validation images.", flag_values=values
    )
    flags.DEFINE_bool(
        "skip_bad",
        None,
        "Leave out files that cannot be used; they are listed and counted in any case.",
        flag_values=values,
    )
    flags.DEFINE_integer("workers", None, "Processes (default: one per core).", flag_values=values)


def run(values: flags.FlagValues, what: str) -> int:
    """Prepares as the flags say."""
    example = f"{what} --source=DIR --out=DIR"
    source = common.value(values, "source")
    if what != "tfds":
        source = common.required(values, "source", example)
    out = common.required(values, "out", example)
    every = sorted({option for options in OPTIONS.values() for option in options})
    given = {name: common.value(values, name) for name in every}
    options = {name: value for name, value in given.items() if value is not None}
    surplus = [name for name in options if name not in OPTIONS[what]]
    require(not surplus, f"{what} takes no --{' --'.join(surplus)}; leave that out.")
    for name, needed_by in (("image_size", "folder"), ("name", "tfds")):
        if what == needed_by:
            common.required(values, name, f"{example} --{name}=...")

    from ict_jax.data import prepare  # late: --help and mistakes answer at once

    makers = {
        "imagenet64": prepare.prepare_imagenet64,
        "folder": prepare.prepare_folder,
        "cifar10": prepare.prepare_cifar10,
        "tfds": prepare.prepare_official,
    }
    try:
        makers[what](source, out, **options)
    except OSError as error:
        raise ArgumentError(
            f"{what} cannot go on ({error}); mend that, and run the same command again."
        ) from error
    except KeyboardInterrupt:
        print("interrupted; to go on, run the same command again", file=sys.stderr)
        return common.EXIT_INTERRUPTED
    return 0


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or "", choices=SETS))


if __name__ == "__main__":
    main()
