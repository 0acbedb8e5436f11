r"""Prepare a set on disk for training with random access, without TensorFlow.

  python -m ict_jax.cli.prepare imagenet64 --source=/data/imagenet --out=/data/prepared
  python -m ict_jax.cli.prepare folder --source=/data/photos --image_size=64 --name=photos \
      --out=/data/prepared
  python -m ict_jax.cli.prepare cifar10 --source=/data/downloads --out=/data/prepared
  python -m ict_jax.cli.prepare tfds --name=fashion_mnist --out=/data/prepared

imagenet64  raw ImageNet (ILSVRC 2012), box-halved, bicubic, centre-cropped as by ADM.
            --source holds train/, with a subfolder per class, or ILSVRC2012_img_train.tar; and
            val/, with subfolders or without, or ILSVRC2012_img_val.tar. Without subfolders give
            --val_labels: one WordNet id per line, or Kaggle's LOC_val_solution.csv.
folder      your own images, a subfolder per class, at any size.
cifar10     the original archive cifar-10-binary.tar.gz, whose checksum is verified.
tfds        a set of TensorFlow Datasets, by TensorFlow (pip install 'ict_jax[tfds]'). With
            --source, a directory of its original files, nothing is downloaded.

Train on it with --config.data.name=tfds:NAME --config.data.data_dir=OUT. A run that was stopped,
even killed, resumes when the same command is run again.
"""

import functools
import sys

from absl import flags

from ict_jax.cli import common
from ict_jax.core.errors import ArgumentError, require

OPTIONS = {
    "imagenet64": ("val_labels", "skip_bad", "workers"),
    "folder": ("name", "image_size", "skip_bad", "workers"),
    "cifar10": ("workers",),
    "tfds": ("name",),
}
REQUIRED = {"folder": "image_size", "tfds": "name"}


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    string, integer, boolean = (
        functools.partial(define, default=None, flag_values=values)
        for define in (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool)
    )
    string("source", help="Directory of the original files.")
    string("out", help="Data directory that gets the set, in a folder of its own.")
    string("name", help="Name of the set (folder: default images).")
    integer("image_size", help="Height and width of a folder's images.")
    string("val_labels", help="Classes of ImageNet's validation images.")
    boolean("skip_bad", help="Leave out unusable files; they are listed and counted in any case.")
    integer("workers", help="Number of processes (default: one per core).")


def run(values: flags.FlagValues, what: str) -> int:
    """Prepare the set that the flags describe."""
    example = f"{what} --source=DIR --out=DIR"
    source = common.value(values, "source")
    if what != "tfds":
        source = common.required(values, "source", example)
    out = common.required(values, "out", example)
    names = sorted(set().union(*OPTIONS.values()))
    options = {n: value for n in names if (value := common.value(values, n)) is not None}
    surplus = [name for name in options if name not in OPTIONS[what]]
    require(not surplus, f"{what} takes no --{' --'.join(surplus)}; leave that out.")
    if what in REQUIRED:
        common.required(values, REQUIRED[what], f"{example} --{REQUIRED[what]}=...")

    from ict_jax.data import prepare  # late: --help and mistakes answer at once

    try:
        getattr(prepare, f"prepare_{what}")(source, out, **options)
    except OSError as error:
        raise ArgumentError(
            f"{what} cannot go on ({error}); fix that and run the same command again."
        ) from error
    except KeyboardInterrupt:
        print("interrupted; to resume, run the same command again", file=sys.stderr)
        return common.EXIT_INTERRUPTED
    return 0


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or "", choices=tuple(OPTIONS)))


if __name__ == "__main__":
    main()
