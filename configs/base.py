"""The values of iCT (Song & Dhariwal, ICLR 2024); every other config states differences.

None means: not used, or (sigma_data) measured on the training images.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(form: str = "full") -> ConfigDict:
    """The paper's values, those for CIFAR-10 where its data sets differ.

    The full form has no network, each other config names one; `smoke` runs in seconds.
    """
    config = _paper()
    if form == "smoke":
        config.model.name = "dense"
        make_smoke(config)
    elif form != "full":
        raise ValueError(f"the form {form!r} of the config is unknown; use no suffix or ':smoke'.")
    return config


def make_smoke(config: ConfigDict) -> None:
    """Cuts a config to seconds: few small steps on the embedded digits."""
    config.data.name = "digits"
    config.total_steps = 20
    config.batch_size = 32
    config.discretization.s1 = 40
    config.model.update({"width": 64, "hidden": 64, "num_blocks": 1})
    config.sampling.num_images = 4
    config.logging.update({"every_steps": 5, "samples_every_steps": 10})
    config.checkpointing.every_steps = 10
    config.evaluation.num_samples = 300


def _paper() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.total_steps = 400_000  # iCT, Appendix: 400k iterations
    config.batch_size = 1024  # iCT, Appendix
    config.image_shape = placeholder(tuple)  # filled in from the data
    config.init_from = placeholder(str)  # checkpoint that a new run starts from

    config.data = ConfigDict({"name": "tfds:cifar10", "data_dir": placeholder(str)})

    config.model = ConfigDict({"name": placeholder(str)})  # each config names its network

    # iCT, Table 1, and EDM for the grid.
    config.discretization = ConfigDict()
    config.discretization.s0 = 10
    config.discretization.s1 = 1280
    config.discretization.sigma_min = 0.002
    config.discretization.sigma_max = 80.0
    config.discretization.rho = 7.0
    config.discretization.p_mean = -1.1  # natural logarithm of sigma
    config.discretization.p_std = 2.0

    # CM, Appendix C.
    config.precondition = ConfigDict()
    config.precondition.sigma_data = 0.5
    config.precondition.sigma_min = config.discretization.get_ref("sigma_min")

    # iCT, Section 3.3; huber_c None is 0.00054 * sqrt(h * w * c).
    config.objective = ConfigDict({"name": "ict"})
    config.objective.huber_c = placeholder(float)

    # RAdam, constant rate, no warm-up; b1, b2, eps: library defaults.
    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8

    config.training = ConfigDict()
    config.training.ema_decay = 0.99993  # iCT, Appendix; applied every step
    config.training.accumulation_steps = 1
    config.training.flip = True  # CM, Appendix C

    # Grids shown during training.
    config.sampling = ConfigDict()
    config.sampling.second_sigma = 0.821  # iCT on CIFAR-10, two-step sampling
    config.sampling.num_images = 64

    config.mesh = ConfigDict({"num_devices": placeholder(int)})

    config.logging = ConfigDict()
    config.logging.every_steps = 100
    config.logging.samples_every_steps = 5000

    config.checkpointing = ConfigDict()
    config.checkpointing.every_steps = 5000
    config.checkpointing.keep_last = 2
    config.checkpointing.keep_every_steps = placeholder(int)

    config.evaluation = ConfigDict()
    config.evaluation.every_steps = placeholder(int)
    config.evaluation.num_samples = 5000
    config.evaluation.at_end = False
    return config
