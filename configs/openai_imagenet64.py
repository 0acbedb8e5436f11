"""ImageNet 64x64 networks that OpenAI released with CM: CD and CT; `:edm` is the EDM network.

For importing their weights. Only differences from iCT are given; `configs/base.py` explains the
marks in brackets.
"""

from ml_collections import ConfigDict

from configs import base, imagenet64_ict


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its form `edm`."""
    base.check_form(form, "edm")
    config = imagenet64_ict.get_config()
    config.model.scale_shift_norm = True  # CM [code]
    config.model.c_noise_multiplier = 1000.0  # CM [code]
    config.model.dropout = 0.0  # CM [code]
    if form == "edm":
        base.make_diffusion(config)
    return config
