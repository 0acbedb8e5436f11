"""EDM (Karras et al., 2022): the diffusion model that CD distils and ECT and sCM start from.

`full` is the NCSN++ that CM's authors trained on CIFAR-10, without EDM's augmentation; `ddpmpp` has
the network that ECT and sCM start from, and `trigflow`, `trigflow_digits` and
`trigflow_fashion_mnist` the preconditioning of sCM. Other forms as in `configs/others.py`; only
differences from `configs/base.py` are given.
"""

from ml_collections import ConfigDict

from configs import base, others

TRIGFLOW = {
    "trigflow": "ddpmpp",
    "trigflow_digits": "digits",
    "trigflow_fashion_mnist": "fashion_mnist",
}


def get_config(form: str = "full") -> ConfigDict:
    """Return the config, or one of its other forms."""
    base.check_form(form, "smoke", "digits", "fashion_mnist", "ddpmpp", *TRIGFLOW)
    if form in TRIGFLOW:
        config = get_config(TRIGFLOW[form])
        config.precondition.name = "trigflow"  # sCM, Section 3 [read]
        return config
    config = others.begin("full" if form == "ddpmpp" else form)
    base.make_diffusion(config)
    others.set_continuous(config)
    config.optimizer.name = "adam"  # EDM, Table 7 [code]
    config.model.dropout = 0.13  # EDM, Table 7 [code]
    config.model.fourier_scale = 16.0  # CM [code]
    # In EDM 10 of 200 Mimg.
    config.optimizer.warm_up_steps = config.get_oneway_ref("total_steps") // 20
    if form in ("full", "ddpmpp"):
        others.set_paper(
            config,
            batch_size=512,  # EDM, Table 7 [code]
            total_steps=400_000,  # EDM, Table 7: 200 Mimg [code]
            learning_rate=1e-3,  # EDM, Table 7 [code]
            warm_up_steps=19_531,  # EDM, Table 7: 10 Mimg [code]
            ema_decay=0.99929,  # EDM, Table 7: a half-life of 0.5 Mimg [code]
        )
    if form == "ddpmpp":
        others.set_ddpmpp(config)
    elif form != "full":
        config.model.fourier_scale = 0.02  # as in the consistency models that start from it
    return config
