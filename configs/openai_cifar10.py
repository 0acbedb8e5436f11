"""CIFAR-10 networks that OpenAI released with CM: CD and CT; `:edm` is the EDM network.

For importing their weights. Only differences from iCT, whose network has the same size, are given;
`configs/base.py` explains the marks in brackets.
"""

from ml_collections import ConfigDict

from configs import base, cifar10_ict


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its form `edm`."""
    base.check_form(form, "edm")
    config = cifar10_ict.get_config()
    config.model.fourier_scale = 16.0  # CM [code]
    config.model.dropout = 0.0  # CM [code]
    if form == "edm":
        base.make_diffusion(config)
    return config
