"""Scoring protocols: how many samples, in which features, against which images."""

from typing import NamedTuple

from ict_jax.core.errors import require
from ict_jax.evaluation.extractors.base import CLASSIFIER

HELD_OUT_PROTOCOL = "held-out"


class Protocol(NamedTuple):
    """Settings that must be the same for two scores to be comparable.

    Attributes:
      name: name under which scores are reported.
      num_samples: number of samples, with the seeds 0, 1, 2, ...
      extractor: network of the features; None: the user's choice.
      reference: "train" or "test": that split of the model's data set; "file": statistics and
        images from a file of the user's.
      num_reference: number of reference images; None: all of the set.
      image_shape: shape of samples and reference; None: any.
    """

    name: str
    num_samples: int
    extractor: str | None
    reference: str
    num_reference: int | None = None
    image_shape: tuple[int, int, int] | None = None


PROTOCOLS = (
    # Small sets: 20 random splits of the test split (`held_out.HeldOut`).
    Protocol(HELD_OUT_PROTOCOL, 5000, CLASSIFIER, "test"),
    # CM and iCT on CIFAR-10.
    Protocol("cifar10-train-50k", 50_000, "inception", "train", 50_000, (32, 32, 3)),
    # ADM, CM and iCT on ImageNet 64x64: the statistics of OpenAI's VIRTUAL_imagenet64_labeled.npz,
    # precision and recall against its images.
    Protocol("imagenet64-adm-50k", 50_000, "inception", "file", image_shape=(64, 64, 3)),
    Protocol("train-set", 50_000, None, "train"),
)
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}
PROTOCOL_NAMES = tuple(BY_NAME)


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
      ArgumentError: there is none.
    """
    known = name in BY_NAME
    require(known, f"--protocol={name} is not known; use one of {', '.join(PROTOCOL_NAMES)}.")
    return BY_NAME[name]


def check_training_split(protocol: Protocol, name: str, size: int, shape: tuple[int, ...]) -> None:
    """Raise `ArgumentError` unless a data set's training split can be a protocol's reference."""
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
