"""The data that the runs of a table are trained on, their equal budgets, and their judges."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.evidence import judges, mixture


class Place(NamedTuple):
    """Data, network, budget and judge of the runs of a table.

    Attributes:
      form: form of the other objectives' configs to start with.
      put: function that sets data, network and budget of a config.
      judge: function from a config and a cache directory to the judge.
      data: context manager within which the data can be loaded.
    """

    form: str
    put: Callable[[Any], None]
    judge: Callable[[Any, Path], judges.Judge]
    data: Callable[[], Any] = contextlib.nullcontext


def budget(config: Any, total_steps: int, batch_size: int) -> None:
    """Set steps and batch size on one device, without evaluation during training."""
    config.total_steps, config.batch_size = total_steps, batch_size
    config.logging.update({"every_steps": total_steps // 6, "samples_every_steps": total_steps})
    config.checkpointing.every_steps = total_steps // 3
    config.evaluation.update({"every_steps": None, "at_end": False})
    config.mesh.num_devices = 1


def _digits(config: Any) -> None:
    budget(config, 12_000, 128)  # the quick start's
    config.model.update({"width": 256, "hidden": 256})


def _unet(config: Any) -> None:
    budget(config, 4000, 64)
    config.model = {"name": "ncsnpp", "channels": 16, "channel_mult": (1, 2), "num_res_blocks": 1}
    config.model.update({"attention_resolutions": (4,), "dropout": 0.2, "num_classes": 10})


def _mixture(config: Any) -> None:
    budget(config, 6000, 128)
    config.model.update({"width": 128, "hidden": 128, "num_classes": 0, "dropout": 0.0})


def _fashion_mnist(config: Any) -> None:
    budget(config, 2000, 16)  # half the steps and half the batch of the config's `hour`


DIGITS = Place("digits", _digits, judges.of_digits)
"""8x8 digits and a network half as wide as the quick start's."""
UNET = Place("digits", _unet, judges.of_digits)
"""8x8 digits and an NCSN++ of 190,609 parameters."""
MIXTURE = Place("digits", _mixture, judges.of_mixture, mixture.as_data)
"""Two numbers from eight normal distributions, and a dense network without dropout."""
FASHION_MNIST = Place("fashion_mnist", _fashion_mnist, judges.of_images)
"""Fashion-MNIST at 32x32 and an NCSN++ of 0.75 million parameters, without dropout."""
