"""Shapes and call signatures shared by the whole method.

`b` is the batch axis and `*dims` whatever one example has: `h w c` for images (NHWC), a
single axis for points.
"""

from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Float, Int, Key

Data: TypeAlias = Float[Array, "b *dims"]
Sigmas: TypeAlias = Float[Array, " b"]
PerExample: TypeAlias = Float[Array, " b"]
Step: TypeAlias = Int[Array, ""] | int
PRNGKey: TypeAlias = Key[Array, ""]


@runtime_checkable
class ConsistencyFn(Protocol):
    """`f(x, sigma) -> x0`: a consistency function bound to parameters, dropout key, labels."""

    def __call__(self, x: Data, sigma: Sigmas, /) -> Data: ...


@runtime_checkable
class Network(Protocol):
    """`F(c_in * x, c_noise) -> [b, *dims]`: the raw network that preconditioning wraps."""

    def __call__(self, x: Data, c_noise: Sigmas, /) -> Data: ...


@runtime_checkable
class Metric(Protocol):
    """`d(prediction, target) -> [b]`: one distance per example."""

    def __call__(self, prediction: Data, target: Data, /) -> PerExample: ...


@runtime_checkable
class Weighting(Protocol):
    """`lambda(sigma_lo, sigma_hi) -> [b]`: one loss weight per example."""

    def __call__(self, sigma_lo: Sigmas, sigma_hi: Sigmas, /) -> PerExample: ...
