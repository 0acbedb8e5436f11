"""Convolutions and dense layers in low precision whose parameters have float32 gradients.

Automatic differentiation would give each kernel a gradient in the dtype of the computation, and
the sum over devices would be taken in it. Here the sum over a device's examples and that over
devices are float32, as the parameters are.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PaddingOf = tuple[tuple[int, int], tuple[int, int]]


class Conv(nn.Conv):
    """`flax.linen.Conv` with two spatial axes, without groups or dilation."""

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        return nn.Conv.__call__(self, inputs).astype(self.dtype)


class Dense(nn.Dense):
    """`flax.linen.Dense`."""

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        return nn.Dense.__call__(self, inputs).astype(self.dtype)


def conv_layer(*args: Any, **options: Any) -> nn.Conv:
    """A `flax.linen.Conv`; in low precision one with float32 gradients."""
    if jnp.dtype(options["dtype"]) == jnp.float32:
        return nn.Conv(*args, **options)
    return Conv(*args, conv_general_dilated=_convolve, promote_dtype=_inputs_only, **options)


def dense_layer(*args: Any, **options: Any) -> nn.Dense:
    """A `flax.linen.Dense`; in low precision one with float32 gradients."""
    if jnp.dtype(options["dtype"]) == jnp.float32:
        return nn.Dense(*args, **options)
    return Dense(*args, dot_general=_multiply, promote_dtype=_inputs_only, **options)


def _inputs_only(inputs: Any, *parameters: Any, dtype: Any = None, **_: Any) -> list[Any]:
    """Leaves kernel and bias in float32."""
    return [inputs.astype(dtype), *parameters]


def _convolve(
    x: Array, kernel: Array, strides: Any, padding: Any, *, dimension_numbers: Any, **_: Any
) -> Array:
    del dimension_numbers  # NHWC and HWIO are the only ones here
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    strides: tuple[int, int],
    padding: PaddingOf,
) -> Float[Array, "b h2 w2 f"]:
    """A convolution in x's dtype, with a gradient in the kernel's dtype for the kernel."""
    return _in_dtype_of_x(x, kernel.astype(x.dtype), strides, padding)


def _in_dtype_of_x(x: Array, kernel: Array, strides: Any, padding: Any) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_forward(x: Array, kernel: Array, strides: Any, padding: Any) -> tuple[Array, Any]:
    return convolve(x, kernel, strides, padding), (x, kernel)


def _convolve_backward(strides: Any, padding: Any, kept: Any, g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    of_x = jax.linear_transpose(
        lambda x: _in_dtype_of_x(x, kernel.astype(x.dtype), strides, padding), x
    )
    # The images are the channels summed over, the gradient of the output is the kernel.
    of_kernel = jax.lax.conv_general_dilated(
        x,
        g,
        (1, 1),
        padding,
        rhs_dilation=strides,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=kernel.dtype,
    )
    height, width = kernel.shape[:2]  # a stride may leave more
    return of_x(g)[0], of_kernel[:height, :width]


convolve.defvjp(_convolve_forward, _convolve_backward)


def _multiply(x: Array, kernel: Array, dimension_numbers: Any, **_: Any) -> Array:
    del dimension_numbers  # the last axis of x by the first of the kernel
    return multiply(x, kernel)


@jax.custom_vjp
def multiply(x: Float[Array, "*b c"], kernel: Float[Array, "c f"]) -> Float[Array, "*b f"]:
    """A product in x's dtype, with a gradient in the kernel's dtype for the kernel."""
    return x @ kernel.astype(x.dtype)


def _multiply_backward(kept: Any, g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    axes = tuple(range(x.ndim - 1))
    of_kernel = jax.lax.dot_general(
        x, g, ((axes, axes), ((), ())), preferred_element_type=kernel.dtype
    )
    return g @ kernel.astype(g.dtype).T, of_kernel


multiply.defvjp(lambda x, kernel: (multiply(x, kernel), (x, kernel)), _multiply_backward)
