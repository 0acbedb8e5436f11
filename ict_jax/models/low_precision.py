"""Convolutions and dense layers in low precision whose parameters have float32 gradients.

Automatic differentiation would compute each kernel's gradient in the compute dtype and sum it over
devices in that dtype. Here both sums, over a device's examples and over devices, are in float32,
the dtype of the parameters.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]


class Conv(nn.Conv):
    """`flax.linen.Conv` in 2-D without groups or dilation; output in the compute dtype."""

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        return nn.Conv.__call__(self, inputs).astype(self.dtype)


class Dense(nn.Dense):
    """`flax.linen.Dense`; output in the compute dtype."""

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        return nn.Dense.__call__(self, inputs).astype(self.dtype)


def conv_layer(*args: Any, **options: Any) -> nn.Conv:
    """Return a `flax.linen.Conv`; in low precision, one with float32 gradients."""
    if jnp.dtype(options["dtype"]) == jnp.float32:
        return nn.Conv(*args, **options)
    return Conv(*args, conv_general_dilated=_convolve, promote_dtype=_inputs_only, **options)


def dense_layer(*args: Any, **options: Any) -> nn.Dense:
    """Return a `flax.linen.Dense`; in low precision, one with float32 gradients."""
    if jnp.dtype(options["dtype"]) == jnp.float32:
        return nn.Dense(*args, **options)
    return Dense(*args, dot_general=_multiply, promote_dtype=_inputs_only, **options)


def _inputs_only(inputs: Any, *parameters: Any, dtype: Any = None, **_: Any) -> list[Any]:
    """Cast the inputs, and leave kernel and bias in float32."""
    return [inputs.astype(dtype), *parameters]


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **_: Any) -> Array:
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return mixed_conv(x, kernel, tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def mixed_conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    strides: tuple[int, int],
    padding: Padding,
) -> Float[Array, "b h2 w2 f"]:
    """Convolve in x's dtype; the kernel's gradient is in the kernel's dtype."""
    return _conv(x, kernel.astype(x.dtype), strides, padding)


def _conv(x: Array, kernel: Array, strides: Any, padding: Any) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv_backward(strides: Any, padding: Any, residuals: Any, g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    grad_x = jax.linear_transpose(lambda x: _conv(x, kernel.astype(x.dtype), strides, padding), x)
    # dL/dkernel is a convolution of x with g: examples are summed over as channels (CHWN), g is
    # the kernel (IHWO), and the stride becomes its dilation.
    grad_kernel = jax.lax.conv_general_dilated(
        x,
        g,
        (1, 1),
        padding,
        rhs_dilation=strides,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=kernel.dtype,
    )
    height, width = kernel.shape[:2]  # a stride may leave more
    return grad_x(g)[0], grad_kernel[:height, :width]


mixed_conv.defvjp(
    lambda x, kernel, *rest: (mixed_conv(x, kernel, *rest), (x, kernel)), _conv_backward
)


def _multiply(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    return mixed_matmul(x, kernel)


@jax.custom_vjp
def mixed_matmul(x: Float[Array, "*b c"], kernel: Float[Array, "c f"]) -> Float[Array, "*b f"]:
    """Multiply in x's dtype; the kernel's gradient is in the kernel's dtype."""
    return x @ kernel.astype(x.dtype)


def _matmul_backward(residuals: Any, g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    axes = tuple(range(x.ndim - 1))
    grad_kernel = jax.lax.dot_general(
        x, g, ((axes, axes), ((), ())), preferred_element_type=kernel.dtype
    )
    return g @ kernel.astype(g.dtype).T, grad_kernel


mixed_matmul.defvjp(lambda x, kernel: (mixed_matmul(x, kernel), (x, kernel)), _matmul_backward)
