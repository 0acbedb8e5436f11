"""sCD (Lu & Song, 2025): continuous-time distillation; FID 3.66 / 2.52.

Distils a diffusion model with the same preconditioning: --config.diffusion_from=RUN, trained by
`configs/edm.py:trigflow` (in the same form). The network is that of `configs/sct.py`, without the
paper's double normalisation. Forms as in `configs/others.py`.
"""

from ml_collections import ConfigDict

from configs import others, sct


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or its forms `smoke`, `digits` and `fashion_mnist`."""
    config = sct.get_config(form)
    config.objective.name = "scd"
    config.objective.p_std = 1.4  # Appendix G.2 [read]
    config.model.dropout = 0.0  # Appendix G.2 [read]
    if form == "full":
        others.set_paper(
            config,
            batch_size=512,  # Appendix G.2 [read]
            total_steps=400_000,  # not stated [ours]
            learning_rate=1e-4,  # Appendix G.2 [read]
            ema_decay=0.99929,  # a half-life of 0.5 Mimg: Appendix G.2 [derived]
        )
    return config
