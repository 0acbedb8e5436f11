"""Array shapes and call signatures of the method.

`b` is the batch axis, `*dims` the axes of one example: `h w c` for images (NHWC), a single
axis for points.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Array, Float, Int, Key

Data: TypeAlias = Float[Array, "b *dims"]
Sigmas: TypeAlias = Float[Array, " b"]
PerExample: TypeAlias = Float[Array, " b"]
Step: TypeAlias = Int[Array, ""] | int
PRNGKey: TypeAlias = Key[Array, ""]

ConsistencyFn: TypeAlias = Callable[[Data, Sigmas], Data]
"""`f(x, sigma) -> x0`: a consistency function bound to parameters, dropout key, labels."""

Network: TypeAlias = Callable[[Data, Sigmas], Data]
"""`F(c_in * x, c_noise) -> [b, *dims]`: the raw network that preconditioning wraps."""

Metric: TypeAlias = Callable[[Data, Data], PerExample]
"""`d(prediction, target) -> [b]`: one distance per example."""

Weighting: TypeAlias = Callable[[Sigmas, Sigmas], PerExample]
"""`lambda(sigma_lo, sigma_hi) -> [b]`: one loss weight per example."""
