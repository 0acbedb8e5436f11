"""CD (Song et al., 2023) with the metric squared l2, or LPIPS in the form `lpips`.

Distils a diffusion model: --config.diffusion_from=RUN, trained by `configs/edm.py` in the same
form, or imported. Forms as in `configs/others.py`; only differences from `configs/base.py` are
given.
"""

from ml_collections import ConfigDict

from configs import others


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `lpips`, `smoke`, `digits` and `fashion_mnist`."""
    config = others.begin(form, "lpips")
    config.objective.name = "cd"
    config.objective.target_decay = 0.0  # CM [code]
    config.objective.metric = "squared_l2"  # CM, Section 5 [read]
    config.objective.weight = "unit"  # CM, Section 5 [read]
    others.set_levels(config, "constant", s0=17, s1=17)  # N = 18: CM [code]
    config.model.dropout = 0.0  # CM [code]
    config.sampling.second_sigma = 0.585  # CM's notebook [code]
    if form in ("full", "lpips"):
        config.model.fourier_scale = 16.0  # CM [code]; the other forms have that of the teacher
        others.set_paper(
            config,
            batch_size=512,  # CM [code]
            total_steps=800_000,  # CM [code]
            learning_rate=4e-4,  # CM [code]
            ema_decay=0.9999,  # CM [code]
        )
    if form == "lpips":
        others.set_lpips(config)
    return config
