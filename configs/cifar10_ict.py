"""iCT on CIFAR-10: NCSN++ with 56.4 million parameters, FID 2.83 / 2.46 in the paper.

`configs/base.py` explains the marks in brackets and has all other values.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke` and `narrow`."""
    base.check_form(form, "smoke", "narrow")
    config = base.get_config()
    config.data.name = "tfds:cifar10"  # 50,000 images, without labels: iCT [restated]
    config.image_shape = (32, 32, 3)
    config.model.name = "ncsnpp"  # CM, Appendix C [read]; iCT [restated]
    config.model.channels = 128  # CM [code]
    config.model.channel_mult = (2, 2, 2)  # CM [code]; Score SDE has (1, 2, 2, 2)
    config.model.num_res_blocks = 4  # CM [code]
    config.model.attention_resolutions = (16,)  # CM [code]
    config.model.resample_kernel = (1, 3, 3, 1)  # CM [code]
    config.model.residual_input = True  # CM [code]
    config.model.embedding = "fourier"  # CM [code]
    config.model.fourier_scale = 0.02  # iCT, Section 3.1 [restated]; CM has 16
    config.model.dropout = 0.3  # iCT, Section 3.1 and Appendix [restated]
    config.model.num_classes = 0  # iCT [restated]
    config.model.dtype = "float32"  # CM, Table 3: no half precision [read]
    config.model.remat = False  # [ours]
    config.model.scan_blocks = False  # [ours]
    if form == "smoke":
        base.make_smoke(config, channels=8, **base.SHALLOW)
    elif form == "narrow":
        base.make_narrow(config, channels=16, num_res_blocks=2)
    return config
