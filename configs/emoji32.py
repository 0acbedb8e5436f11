"""Emoji, 32x32, without labels: NCSN++ with 14.1 million parameters.

Takes one GPU a day; `:hour` has a network of 0.75 million parameters for two CPU cores. Only
differences from `configs/base.py` are given; none are from the paper.
"""

from ml_collections import ConfigDict

from configs import base, cifar10_ict


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke` and `hour`."""
    base.check_form(form, "smoke", "hour")
    config = cifar10_ict.get_config()
    base.make_own(config, name="emoji", image_size=32)
    config.model.channels = 64
    config.evaluation.num_samples = 400  # the test split has 374 images
    if form == "smoke":
        base.make_smoke(config, channels=8, **base.SHALLOW)
    elif form == "hour":
        base.make_hour(config, total_steps=4000, batch_size=32, **base.TINY)
    return config
