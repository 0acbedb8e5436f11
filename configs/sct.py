"""sCT (Lu & Song, 2025): continuous-time consistency training; FID 3.09 in one step.

The variant in the paper's comparison with ECT (Appendix E.3), whose DDPM++ has no double
normalisation. Like the paper, starts from --init_from=RUN, trained by `configs/edm.py:trigflow` (in
the same form); without it, from random weights. Forms as in `configs/others.py`; only differences
from `configs/base.py` are given.
"""

from ml_collections import ConfigDict

from configs import others


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke`, `digits` and `fashion_mnist`."""
    config = others.begin(form)
    others.set_continuous(config)
    sigma_data = config.precondition.get_ref("sigma_data")
    config.precondition = ConfigDict(
        {"name": "trigflow", "sigma_data": sigma_data}
    )  # Section 3 [read]
    config.model.dropout = 0.2  # Appendix E.3 [read]
    config.optimizer.b2 = 0.99  # Appendix G.2 [read]
    config.sampling.second_sigma = 0.982  # t = 1.1 at sigma_data = 0.5: Section 5.2 [read]
    if form == "full":
        others.set_ddpmpp(config)
        others.set_paper(
            config,
            batch_size=128,  # Appendix E.3 [read]
            total_steps=400_000,  # Appendix E.3 [read]
            learning_rate=1e-4,  # Appendix G.2 [read]
            ema_decay=0.99982,  # a half-life of 0.5 Mimg: Appendix G.2 [derived]
        )
    config.objective.name = "sct"
    config.objective.p_mean = -1.0  # Appendix G.2 [read]
    config.objective.p_std = 1.8  # Appendix E.3 [read]
    config.objective.tangent_c = 0.1  # Section 4.2 [read]
    # 10,000: Section 4.2 [read]
    config.objective.warm_up_steps = config.get_oneway_ref("total_steps") // 40
    return config
