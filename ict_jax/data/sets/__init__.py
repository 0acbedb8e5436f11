"""Data sets by name."""

from ict_jax.core.errors import ArgumentError
from ict_jax.data.bucket import local_copy
from ict_jax.data.images import Dataset, ImageSet, check_labels
from ict_jax.data.sets.cifar10 import load_cifar10
from ict_jax.data.sets.digits import load_digits
from ict_jax.data.sets.emoji import load_emoji
from ict_jax.data.sets.fashion_mnist import load_fashion_mnist
from ict_jax.data.sets.folder import load_folder
from ict_jax.data.sets.tfds import load_tfds, set_directory
from ict_jax.runtime.storage import is_remote


def load_data(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    in_memory: bool | None = None,
) -> Dataset:
    """Loads a data set by name.

    Args:
      name: `digits` (scikit-learn's handwritten digits, nothing to download), `fashion_mnist`
        (its original files), `cifar10` (its original archive), `emoji` (drawn from Debian's Noto
        font), `folder` (of image files, a subfolder per class), or `tfds:NAME` for a set prepared
        by `ict_jax.cli.prepare` or TensorFlow Datasets in the array_record format.
      data_dir: where the files or the prepared sets are; default: where Debian's packages of
        Fashion-MNIST and emoji or TFDS put them, for CIFAR-10 the present directory. A directory in
        a bucket (gs://...) is copied to this machine first.
      image_size: height and width to make of emoji and of the images of a folder; other sets have
        their own.
      in_memory: whether the training images of a `tfds:` set are read into memory at once; default:
        if they take at most 2 GiB.

    Raises:
      ArgumentError: an unknown name, a set that is not where it should be, or labels that are none
        of its classes. Those of images on disk are checked when they are read.
    """
    if data_dir is not None and is_remote(data_dir):
        # Of prepared sets, which lie side by side, only the one that is asked for.
        one = set_directory(name.removeprefix("tfds:")) if name.startswith("tfds:") else ""
        data_dir = local_copy(data_dir, one)
    dataset = _load(name, data_dir, image_size, in_memory)
    for split in (dataset.train, dataset.validation, dataset.test):
        if isinstance(split, ImageSet):
            what = f"data.name={name!r} in {data_dir or 'its own place'}"
            check_labels(split.labels, dataset.num_classes, what)
    return dataset


def _load(
    name: str, data_dir: str | None, image_size: int | None, in_memory: bool | None
) -> Dataset:
    if name == "digits":
        return load_digits()
    if name == "fashion_mnist":
        return load_fashion_mnist(data_dir=data_dir)
    if name == "cifar10":
        return load_cifar10(data_dir=data_dir)
    if name == "emoji":
        return load_emoji(data_dir=data_dir, image_size=image_size)
    if name == "folder":
        return load_folder(data_dir=data_dir, image_size=image_size)
    if name.startswith("tfds:"):
        return load_tfds(name.removeprefix("tfds:"), data_dir=data_dir, in_memory=in_memory)
    raise ArgumentError(
        f"data.name={name!r} is not a known data set; use 'digits', 'fashion_mnist', "
        "'cifar10', 'emoji', 'folder' or 'tfds:NAME', for instance 'tfds:cifar10'."
    )
