"""The optimizer of the paper."""

import optax

from ict_jax.core.errors import require


def make_optimizer(
    *, learning_rate: float = 1e-4, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """RAdam with a constant learning rate, no warm-up, weight decay or clipping.

    Source: iCT, Appendix (RAdam, 1e-4); b1, b2 and eps are not stated there and are the
    library defaults that the CM authors' code uses.

    Raises:
      ArgumentError: a number is out of its range.
    """
    require(
        learning_rate > 0,
        f"optimizer.learning_rate={learning_rate} must be positive; the paper has 1e-4.",
    )
    require(
        0 <= b1 < 1 and 0 <= b2 < 1 and eps > 0,
        f"optimizer.b1={b1}, b2={b2} and eps={eps} must satisfy 0 <= b1, b2 < 1 and eps > 0; the "
        "defaults are 0.9, 0.999 and 1e-8.",
    )
    return optax.radam(learning_rate, b1=b1, b2=b2, eps=eps)
