"""Fashion-MNIST, 32x32 (padded), grey, ten classes: NCSN++ with 14.1 million parameters.

Takes one GPU a day; `:hour` has a network of 0.75 million parameters for two CPU cores. Only
differences from `configs/base.py` are given; none are from the paper.
"""

from ml_collections import ConfigDict

from configs import base, cifar10_ict


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke` and `hour`."""
    base.check_form(form, "smoke", "hour")
    config = cifar10_ict.get_config()
    base.make_own(config, name="fashion_mnist")
    config.model.update({"channels": 64, "dropout": 0.1, "num_classes": 10})
    config.sampling.num_images = 100  # in ten columns, one per class
    if form == "smoke":
        base.make_smoke(config, channels=8, **base.SHALLOW)
    elif form == "hour":
        base.make_hour(config, total_steps=4000, batch_size=32, **base.TINY)
        config.evaluation.num_samples = 1000
    return config
