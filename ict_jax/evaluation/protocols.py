"""Ways of scoring samples, by name: how many, in whose features, against which images."""

from typing import NamedTuple

from ict_jax.core.errors import ArgumentError, require
from ict_jax.evaluation.extractors.base import CLASSIFIER

HELD_OUT = "held-out"


class Protocol(NamedTuple):
    """What must be the same for two scores to be comparable.

    Attributes:
      name: under which scores are reported.
      num_samples: drawn, with the seeds 0, 1, 2, ...
      extractor: the network in whose features images are compared; None: the user's choice.
      reference: "train" or "test": that split of the model's data set; "file": statistics and
        images of a file that the user has.
      num_reference: images of the reference; None: as many as the set has.
      image_shape: of samples and reference; None: any.
    """

    name: str
    num_samples: int
    extractor: str | None
    reference: str
    num_reference: int | None
    image_shape: tuple[int, int, int] | None


_PROTOCOLS = (
    # Small sets: the test split in 20 splits (`held_out.HeldOut`).
    Protocol(HELD_OUT, 5000, CLASSIFIER, "test", None, None),
    # CM and iCT on CIFAR-10.
    Protocol(
        "cifar10-train-50k",
        50_000,
        "inception",
        "train",
        50_000,
        (32, 32, 3),
    ),
    # ADM, CM and iCT on ImageNet 64x64: the statistics of OpenAI's VIRTUAL_imagenet64_labeled.npz,
    # precision and recall against its images.
    Protocol(
        "imagenet64-adm-50k",
        50_000,
        "inception",
        "file",
        None,
        (64, 64, 3),
    ),
    Protocol("train-set", 50_000, None, "train", None, None),
)

NAMES = tuple(protocol.name for protocol in _PROTOCOLS)


def find_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
      ArgumentError: there is none.
    """
    for protocol in _PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise ArgumentError(f"--protocol={name} is not known; use one of {', '.join(NAMES)}.")


def check_data(protocol: Protocol, name: str, size: int, shape: tuple[int, ...]) -> None:
    """Raises `ArgumentError` unless a training split is what a protocol compares with.

    Args:
      protocol: of the scores.
      name: of the model's data set.
      size: images in its training split.
      shape: of an image.
    """
    require(
        protocol.image_shape in (None, tuple(shape)),
        f"--protocol={protocol.name} is for images of {protocol.image_shape} and {name} has "
        f"{tuple(shape)}; use --protocol=train-set.",
    )
    require(
        protocol.num_reference in (None, size),
        f"--protocol={protocol.name} compares with {protocol.num_reference} training images and "
        f"{name} has {size}; use --protocol=train-set.",
    )
