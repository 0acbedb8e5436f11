"""Flags shared by the commands that score a checkpoint."""

from typing import Any

from absl import flags

from ict_jax.cli import common
from ict_jax.evaluation.protocols import HELD_OUT_PROTOCOL, PROTOCOL_NAMES

TEXTS = {
    "protocol": f"{', '.join(PROTOCOL_NAMES[:-1])} or {PROTOCOL_NAMES[-1]}.",
    "extractor": "Network of the features: inception (gives FID) or lite0 (default: the "
    "protocol's).",
    "inception_weights": "File of the FID network (default: the environment's "
    "ICT_INCEPTION_WEIGHTS).",
    "reference": "The .npz of the protocol imagenet64-adm-50k.",
    "data_dir": "Directory of the model's data (default: the run's, if it was trained on this "
    "machine; a directory named in somebody else's checkpoint is not read).",
    "labels": "Classes of a class-conditional model: even (seed modulo the number of classes), "
    "data (as frequent as in the training set), one class for all, or one per seed, as in 0,1,2.",
    "out": "Directory for the results (default: the work directory of the run).",
}
DEFAULTS = {"protocol": HELD_OUT_PROTOCOL, "labels": "even"}
NUMBERS = {
    "num_samples": (None, "Images drawn (default: 5,000 for held-out, 50,000 for the others)."),
    "first_seed": (0, "Seed of the first image."),
    "batch_size": (256, "Images drawn at once."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Define the shared flags."""
    common.define_checkpoint(values)
    for name, text in TEXTS.items():
        flags.DEFINE_string(name, DEFAULTS.get(name), text, flag_values=values)
    for name, (default, text) in NUMBERS.items():
        flags.DEFINE_integer(name, default, text, flag_values=values)


def options(values: flags.FlagValues) -> dict[str, Any]:
    """Return the values of the shared flags as `ict_jax.evaluation.scoring.evaluate` takes them."""
    names = ("step", *TEXTS, *NUMBERS)
    return {name: common.value(values, name) for name in names}
