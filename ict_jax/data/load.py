"""Data sets by name."""

from ict_jax.core.errors import ArgumentError
from ict_jax.data.digits import load_digits
from ict_jax.data.images import Dataset
from ict_jax.data.tfds_source import load_tfds


def load_data(name: str, *, data_dir: str | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
      name: `digits` (scikit-learn's handwritten digits, nothing to download), or `tfds:NAME`
        for a set prepared by TensorFlow Datasets in the array_record format.
      data_dir: where TFDS finds its prepared sets; default: its own default.

    Raises:
      ArgumentError: an unknown name, or a set that is not where it should be.
    """
    if name == "digits":
        return load_digits()
    if name.startswith("tfds:"):
        return load_tfds(name.removeprefix("tfds:"), data_dir=data_dir)
    raise ArgumentError(
        f"data.name={name!r} is not a known data set; use 'digits' or 'tfds:NAME', for "
        "instance 'tfds:cifar10'."
    )
