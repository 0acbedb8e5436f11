"""The quick start: 8x8 handwritten digits, one-step samples in minutes on two CPU cores.

`configs/digits.py:smoke` is the same run reduced to seconds.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its `smoke` form."""
    base.check_form(form, "smoke")
    config = base.get_config()
    config.data.name = "digits"
    config.total_steps = 12_000
    config.batch_size = 128
    config.discretization.s1 = 160
    config.precondition.sigma_data = placeholder(float)  # measured on the training images
    config.model.update(
        {"name": "dense", "width": 512, "hidden": 512, "num_blocks": 3, "dropout": 0.2}
    )
    config.model.update({"num_classes": 10, "embedding_size": 128, "fourier_scale": 0.02})
    config.optimizer.learning_rate = 1e-3
    config.training.ema_decay = 0.999
    config.training.flip = False  # a mirrored digit is not a digit
    config.sampling.second_sigma = 2.0
    config.sampling.num_images = 100  # in ten columns, one per digit
    config.logging.every_steps = 500
    config.logging.samples_every_steps = 4000
    config.checkpointing.every_steps = 4000
    config.evaluation.at_end = True
    if form == "smoke":
        base.make_smoke(config, width=64, hidden=64, num_blocks=1)
    return config
