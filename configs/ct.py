"""CT (Song et al., 2023) with the metric squared l2, or LPIPS in the form `lpips`.

Forms as in `configs/others.py`; only differences from `configs/base.py` are given.
"""

from ml_collections import ConfigDict

from configs import others


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `lpips`, `smoke`, `digits` and `fashion_mnist`."""
    config = others.begin(form, "lpips")
    config.objective.name = "ct"
    config.objective.mu0 = 0.9  # CM, Table 3 [read]
    config.objective.s0 = 2  # CM, Table 3 [read]
    config.objective.metric = "squared_l2"  # CM, Section 5 [read]
    config.objective.weight = "unit"  # CM, Section 5 [read]
    others.set_levels(config, "sqrt", s0=2)
    config.model.fourier_scale = 16.0  # CM [code]
    config.model.dropout = 0.0  # CM [code]
    if form in ("full", "lpips"):
        config.discretization.s1 = 150  # CM, Table 3 [read]
        others.set_paper(
            config,
            batch_size=512,  # CM, Table 3 [read]
            total_steps=800_000,  # CM, Table 3 [read]
            learning_rate=4e-4,  # CM, Table 3 [read]
            ema_decay=0.9999,  # CM [code]
        )
    if form == "lpips":
        others.set_lpips(config)
    return config
