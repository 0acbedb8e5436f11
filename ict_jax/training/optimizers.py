"""Optimizers of the papers."""

import optax

from ict_jax.core.errors import require

OPTIMIZERS = {"radam": optax.radam, "adam": optax.adam}


def make_optimizer(
    *,
    name: str = "radam",
    learning_rate: float = 1e-4,
    warm_up_steps: int = 0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Return RAdam with a constant learning rate and no weight decay or clipping; or Adam.

    Args:
      name: "radam" for consistency models, "adam" for diffusion models.
      learning_rate: constant after the warm-up.
      warm_up_steps: steps of linear growth from 0.
      b1: decay rate of the gradient's EMA.
      b2: decay rate of the squared gradient's EMA.
      eps: added to the denominator.

    Raises:
      ArgumentError: an unknown name, or a value out of range.

    Source: iCT, Appendix (RAdam, 1e-4); b1, b2 and eps are not stated there and are the
    library defaults that the CM authors' code uses. Adam with warm-up: EDM, Table 7.
    """
    require(
        name in OPTIMIZERS,
        f"optimizer.name={name!r} is unknown; use one of {sorted(OPTIMIZERS)}.",
    )
    require(
        learning_rate > 0,
        f"optimizer.learning_rate={learning_rate} must be positive; the paper has 1e-4.",
    )
    require(warm_up_steps >= 0, f"optimizer.warm_up_steps={warm_up_steps} must not be negative.")
    require(
        0 <= b1 < 1 and 0 <= b2 < 1 and eps > 0,
        f"optimizer.b1={b1}, b2={b2} and eps={eps} must satisfy 0 <= b1, b2 < 1 and eps > 0; the "
        "defaults are 0.9, 0.999 and 1e-8.",
    )
    rate = learning_rate
    if warm_up_steps:
        rate = optax.linear_schedule(0.0, learning_rate, warm_up_steps)
    return OPTIMIZERS[name](rate, b1=b1, b2=b2, eps=eps)
