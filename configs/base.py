"""Values of iCT (Song & Dhariwal, ICLR 2024) that all its models share.

Every value has its source and, in brackets, how certain it is:

  read      read in the paper itself, or in CM (Song et al., ICML 2023)
  code      read in the code of CM's authors; none was published for iCT
  restated  given by two or more others who worked from the paper
  recalled  recalled from the paper's appendix, without a second source
  derived   computed from the others
  default   the library's default; the paper does not say
  ours      concerns the job, not the method

None means unused, or filled in from the data (image_shape, sigma_data).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

SHALLOW = {"channel_mult": (1,), "num_res_blocks": 1, "attention_resolutions": ()}
"""U-Nets of the smoke forms, which compile in seconds."""

TINY = {
    "channels": 16,
    "channel_mult": (1, 2, 4),
    "num_res_blocks": 1,
    "attention_resolutions": (8,),
}
"""NCSN++ of the hour forms."""


def get_config(form: str = "full") -> ConfigDict:
    """Return the shared values, with those for CIFAR-10 where the data sets differ.

    The full form has no network, which each other config names; `smoke` runs in seconds.
    """
    check_form(form, "smoke")
    config = _paper()
    if form == "smoke":
        make_smoke(config, name="dense", width=64, hidden=64, num_blocks=1)
    return config


def check_form(form: str, *others: str) -> None:
    """Raise `ValueError` unless a form is the full one or one of the others."""
    if form not in ("full", *others):
        raise ValueError(
            f"the form {form!r} of the config is unknown; use no suffix, or one of "
            f"{[f':{other}' for other in others]}."
        )


def make_smoke(config: ConfigDict, **model) -> None:
    """Reduce a config to seconds: a few steps of a small network on the embedded digits."""
    config.data.update({"name": "digits", "image_size": None})
    config.image_shape = None
    config.total_steps = 20
    config.batch_size = 32
    config.discretization.s1 = 40
    config.model.update(model)
    config.sampling.num_images = 4
    config.logging.update({"every_steps": 5, "samples_every_steps": 10})
    config.checkpointing.every_steps = 10
    config.evaluation.update({"every_steps": None, "num_samples": 300})


def make_diffusion(config: ConfigDict) -> None:
    """Set the preconditioning and the objective of a diffusion model."""
    sigma_data = config.precondition.get_ref("sigma_data")
    config.precondition = ConfigDict({"name": "edm", "sigma_data": sigma_data})  # EDM [code]
    config.objective = ConfigDict({"name": "edm"})
    config.objective.p_mean = -1.2  # EDM, Table 1 [code]
    config.objective.p_std = 1.2  # EDM, Table 1 [code]


def make_narrow(config: ConfigDict, **model) -> None:
    """Set a narrow network on Fashion-MNIST: all eight stages in minutes."""
    config.data.name = "fashion_mnist"
    config.image_shape = None
    config.precondition.sigma_data = placeholder(float)
    config.total_steps = 400
    config.batch_size = 32
    config.optimizer.learning_rate = 1e-3
    config.training.ema_decay = 0.98
    config.model.update(model)
    config.logging.update({"every_steps": 10, "samples_every_steps": 50})
    config.checkpointing.update({"every_steps": 50, "keep_last": 10})


def make_own(config: ConfigDict, **data) -> None:
    """Adapt a recipe of the paper to a data set of another size, without flips."""
    config.data.update(data)
    config.image_shape = None
    config.precondition.sigma_data = placeholder(float)  # measured on the training images
    config.total_steps = 200_000
    config.batch_size = 256
    config.training.ema_decay = 0.9999
    config.training.flip = False
    config.evaluation.update({"every_steps": 20_000, "at_end": True})


def make_hour(config: ConfigDict, *, total_steps: int, batch_size: int, **model) -> None:
    """Set a tiny network and few steps, at most an hour on two CPU cores."""
    config.total_steps = total_steps
    config.batch_size = batch_size
    config.discretization.s1 = 80
    config.optimizer.learning_rate = 1e-3
    config.training.ema_decay = 0.995
    config.model.update({"dropout": 0.0, **model})
    config.logging.update({"every_steps": 50, "samples_every_steps": total_steps // 4})
    config.checkpointing.every_steps = 250
    config.evaluation.every_steps = total_steps // 8


def _paper() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # [ours]
    config.total_steps = 400_000  # iCT, Appendix [restated]
    config.batch_size = 1024  # iCT, Appendix [restated]
    config.image_shape = placeholder(tuple)
    config.init_from = placeholder(str)  # from random weights: iCT, abstract [read]
    config.diffusion_from = placeholder(str)  # teacher of distillation; not used by iCT

    config.data = ConfigDict({"name": "digits"})  # [ours]
    config.data.data_dir = placeholder(str)  # directory of the data set, if not the default
    config.data.image_size = placeholder(int)  # of a folder of images, and of emoji
    config.data.in_memory = placeholder(bool)  # default: if the training images take at most 2 GiB

    config.pipeline = ConfigDict()
    config.pipeline.on_device = placeholder(bool)  # default: if in memory and at most 2 GiB
    config.pipeline.read_threads = 4  # [ours]
    config.pipeline.read_ahead = 4  # at most so many batches [ours]

    config.model = ConfigDict({"name": placeholder(str)})  # each config names its network
    config.matmul_precision = placeholder(str)  # the accelerator's own [default]

    config.discretization = ConfigDict()
    config.discretization.curriculum = "doubling"  # iCT, Table 1 [restated]
    config.discretization.s0 = 10  # iCT, Table 1 [restated]
    config.discretization.s1 = 1280  # iCT, Table 1 [restated]
    config.discretization.sigma_min = 0.002  # CM, Section 5; EDM [read, code]
    config.discretization.sigma_max = 80.0  # CM, Section 5; EDM [read, code]
    config.discretization.rho = 7.0  # CM, Section 5; EDM [read, code]
    config.discretization.noise_law = "lognormal"  # iCT, Table 1 [restated]
    config.discretization.p_mean = -1.1  # iCT, Table 1, of the natural logarithm [restated]
    config.discretization.p_std = 2.0  # iCT, Table 1 [restated]

    config.precondition = ConfigDict({"name": "boundary"})  # CM, Appendix C [read, code]
    config.precondition.sigma_data = 0.5  # CM, Appendix C [read, code]
    config.precondition.sigma_min = config.discretization.get_ref("sigma_min")

    config.objective = ConfigDict({"name": "ict"})
    config.objective.target_decay = placeholder(float)  # no teacher EMA: iCT, abstract [read]
    config.objective.metric = "pseudo_huber"  # iCT, Table 1 [restated]
    config.objective.weight = "inverse_gap"  # iCT, Table 1 [restated]
    config.objective.huber_c = placeholder(float)  # 0.00054 * sqrt(h * w * c): Table 1 [restated]

    config.optimizer = ConfigDict({"name": "radam"})  # iCT, Appendix [restated]; CM [read]
    config.optimizer.learning_rate = 1e-4  # constant: iCT, Appendix [restated]
    config.optimizer.warm_up_steps = 0  # [restated]
    config.optimizer.b1 = 0.9  # [default, code]
    config.optimizer.b2 = 0.999  # [default, code]
    config.optimizer.eps = 1e-8  # [default, code]

    config.training = ConfigDict()
    config.training.ema_decay = 0.99993  # per step: iCT, Appendix [restated]
    config.training.accumulation_steps = 1  # [ours]
    config.training.flip = True  # CM, Appendix C [read, code]

    config.sampling = ConfigDict()
    config.sampling.second_sigma = 0.821  # iCT, Appendix [restated], on the grid of 1281 [derived]
    config.sampling.num_images = 64  # [ours]

    config.mesh = ConfigDict()
    config.mesh.num_devices = placeholder(int)  # all [ours]
    config.mesh.fsdp = 1  # devices over which the parameters are sharded [ours]

    config.logging = ConfigDict()
    config.logging.every_steps = 100  # [ours]
    config.logging.samples_every_steps = 5000  # [ours]

    config.checkpointing = ConfigDict()
    config.checkpointing.every_steps = 5000  # [ours]
    config.checkpointing.keep_last = 2  # [ours]
    config.checkpointing.keep_every_steps = placeholder(int)  # [ours]
    config.checkpointing.stop_on_failed_save = True  # [ours]

    config.evaluation = ConfigDict()
    config.evaluation.every_steps = placeholder(int)  # [ours]
    config.evaluation.num_samples = 5000  # [ours]
    config.evaluation.extractor = "classifier"  # [ours]
    config.evaluation.at_end = False  # [ours]
    return config
