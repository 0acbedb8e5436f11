"""Common parts of the configs of the other objectives, in each of their forms.

`full` is CIFAR-10 with the published values, `smoke` runs in seconds, `digits` and `fashion_mnist`
train the networks of `digits.py` and `fashion_mnist.py:hour` on two CPU cores. `base.py` explains
the marks in brackets.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base, cifar10_ict, digits, fashion_mnist


def begin(form: str, *others: str) -> ConfigDict:
    """Return iCT's config in a form, without its objective; `others` are variants of `full`."""
    base.check_form(form, *others, "smoke", "digits", "fashion_mnist")
    config = {
        **dict.fromkeys(("full", *others), cifar10_ict.get_config),
        "smoke": lambda: digits.get_config("smoke"),
        "digits": digits.get_config,
        "fashion_mnist": lambda: fashion_mnist.get_config("hour"),
    }[form]()
    config.objective = ConfigDict()
    return config


def set_levels(config: ConfigDict, curriculum: str, **levels) -> None:
    """Set the levels of CM: uniformly drawn pairs of N(k) levels."""
    config.discretization.update({"curriculum": curriculum, "noise_law": "uniform", **levels})
    del config.discretization.p_mean
    del config.discretization.p_std


def set_continuous(config: ConfigDict) -> None:
    """Set continuous levels; a grid remains for the search of the second level of sampling."""
    set_levels(config, "constant")


def set_paper(config: ConfigDict, **training) -> None:
    """Set the published batch size, steps, learning rate and EMA decay."""
    config.batch_size = training.pop("batch_size")
    config.total_steps = training.pop("total_steps")
    config.training.ema_decay = training.pop("ema_decay")
    config.optimizer.update(training)


def set_lpips(config: ConfigDict) -> None:
    """Set the metric LPIPS, from two files of weights that the user provides."""
    config.objective.metric = "lpips"  # CM, Section 5 [read]
    config.lpips = ConfigDict()
    config.lpips.vgg_weights = placeholder(str)
    config.lpips.linear_weights = placeholder(str)
    config.lpips.size = 224  # CM [code]
    config.lpips.pooling = "max"  # CM [code]


def set_ddpmpp(config: ConfigDict) -> None:
    """Set the DDPM++ with 55.7 million parameters and a positional embedding."""
    config.model.update(
        {"name": "ddpmpp", "embedding": "positional"}  # EDM [recalled]; ECT, sCM [restated, read]
    )
    config.model.update({"resample_kernel": (1, 1), "residual_input": False})
