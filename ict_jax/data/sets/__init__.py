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
    """Load a data set by name.

    Args:
      name: `digits` (shipped with scikit-learn), `fashion_mnist` (original files), `cifar10`
        (original archive), `emoji` (drawn from Debian's Noto font), `folder` (of image files, a
        subfolder per class), or `tfds:NAME` for a set prepared by `ict_jax.cli.prepare` or
        TensorFlow Datasets in the array_record format.
      data_dir: directory of the files or the prepared sets; default: that of Debian's packages for
        Fashion-MNIST and emoji, that of TFDS, and for CIFAR-10 the current directory. A directory
        in a bucket (gs://...) is copied to this machine first.
      image_size: height and width, of emoji and of folders of images only.
      in_memory: read the training images of a `tfds:` set into memory at once; default: if they
        take at most 2 GiB.

    Raises:
      ArgumentError: an unknown name, a missing set, or labels outside its classes (checked when
        images on disk are read).
    """
    if data_dir is not None and is_remote(data_dir):
        # Prepared sets lie side by side: copy the requested one only.
        one = set_directory(name.removeprefix("tfds:")) if name.startswith("tfds:") else ""
        data_dir = local_copy(data_dir, one)
    if name == "digits":
        dataset = load_digits()
    elif name == "fashion_mnist":
        dataset = load_fashion_mnist(data_dir=data_dir)
    elif name == "cifar10":
        dataset = load_cifar10(data_dir=data_dir)
    elif name == "emoji":
        dataset = load_emoji(data_dir=data_dir, image_size=image_size)
    elif name == "folder":
        dataset = load_folder(data_dir=data_dir, image_size=image_size)
    elif name.startswith("tfds:"):
        dataset = load_tfds(name.removeprefix("tfds:"), data_dir=data_dir, in_memory=in_memory)
    else:
        raise ArgumentError(
            f"data.name={name!r} is not a known data set; use 'digits', 'fashion_mnist', "
            "'cifar10', 'emoji', 'folder' or 'tfds:NAME', for instance 'tfds:cifar10'."
        )
    for split in (dataset.train, dataset.validation, dataset.test):
        if isinstance(split, ImageSet):
            what = f"data.name={name!r} in {data_dir or 'its default directory'}"
            check_labels(split.labels, dataset.num_classes, what)
    return dataset
