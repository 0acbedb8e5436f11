"""Emoji, 64x64, in their nine groups: ADM with 24.3 million parameters.

Takes one GPU a day; `:hour` has a network of 1.2 million parameters for two CPU cores. Only
differences from `configs/base.py` are given; none are from the paper.
"""

from ml_collections import ConfigDict

from configs import base, imagenet64_ict


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke` and `hour`."""
    base.check_form(form, "smoke", "hour")
    config = imagenet64_ict.get_config()
    base.make_own(config, name="emoji", image_size=64)
    config.model.update({"channels": 64, "num_res_blocks": 2, "num_classes": 9})
    config.total_steps = 100_000
    config.sampling.num_images = 81  # in nine columns, one per group
    config.evaluation.num_samples = 400  # the test split has 374 images
    if form == "smoke":
        base.make_smoke(config, channels=64, num_classes=10, **base.SHALLOW)
    elif form == "hour":
        base.make_hour(config, total_steps=2500, batch_size=16, channels=16, num_res_blocks=1)
        config.model.update({"channel_mult": (1, 2, 4, 4), "attention_resolutions": (8,)})
        config.model.update({"head_channels": 16, "min_group_channels": 4})
    return config
