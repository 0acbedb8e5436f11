"""The CIFAR-10 networks that OpenAI released with CM: CD and CT; as `:edm` the EDM network.

For importing their weights. What differs from iCT, whose network has the same sizes; the marks
in brackets are explained in `configs/base.py`.
"""

from ml_collections import ConfigDict

from configs import base, cifar10_ict


def get_config(form: str = "full") -> ConfigDict:
    """The config, or its form `edm`."""
    base.check_form(form, "edm")
    config = cifar10_ict.get_config()
    config.model.fourier_scale = 16.0  # CM [code]
    config.model.dropout = 0.0  # CM [code]
    if form == "edm":
        base.make_diffusion(config)
    return config
