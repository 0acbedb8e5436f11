"""Layers in bfloat16 whose parameters have float32 gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ict_jax.models.low_precision import conv_layer, dense_layer, mixed_conv, mixed_matmul


def pair(*shape):
    """Random numbers that bfloat16 holds exactly, and the same in float64."""
    x = jax.random.normal(jax.random.key(sum(shape)), shape).astype(jnp.bfloat16)
    return x, np.asarray(x, np.float64)


def gradients(function, x, kernel, g):
    """Of the sum of products of the outputs with g."""
    return jax.grad(
        lambda x, kernel: (function(x, kernel).astype(jnp.float32) * g).sum(), argnums=(0, 1)
    )(x, kernel)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("stride", "pads"), [(1, (1, 1)), (2, (0, 0)), (2, (0, 1)), (1, (0, 0))])
def test_gradient_of_a_kernel_is_float32(size, stride, pads):
    """Against sums in float64: bfloat16 would be off by 2^-9."""
    (x, x64), (kernel, kernel64) = pair(4, 9, 9, 5), pair(size, size, 5, 7)
    padding, strides = (pads, pads), (stride, stride)

    def function(x, kernel):
        return mixed_conv(x, kernel, strides, padding)

    y = function(x, kernel.astype(jnp.float32))
    g, g64 = pair(*y.shape)
    of_x, of_kernel = gradients(function, x, kernel.astype(jnp.float32), g)
    padded = np.pad(x64, [(0, 0), pads, pads, (0, 0)])
    expected, expected_y = np.zeros(kernel.shape), np.zeros(y.shape)
    height, width = (1 + (n - 1) * stride for n in y.shape[1:3])
    for i in range(size):
        for j in range(size):
            seen = padded[:, i : i + height : stride, j : j + width : stride]
            expected[i, j] = np.einsum("bhwc,bhwf->cf", seen, g64)
            expected_y += seen @ kernel64[i, j]
    assert of_kernel.dtype == jnp.float32 and of_x.dtype == y.dtype == jnp.bfloat16
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(y.astype(np.float32), expected_y, rtol=0.01, atol=0.05)
    plain = jax.grad(
        lambda x: (
            jax.lax.conv_general_dilated(
                x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ).astype(jnp.float32)
            * g
        ).sum()
    )(x)
    np.testing.assert_array_equal(of_x, plain)


@pytest.mark.parametrize("leading", [(64,), (4, 16)])
def test_gradient_of_a_dense_kernel_is_float32(leading):
    (x, x64), (kernel, _), (g, g64) = pair(*leading, 5), pair(5, 7), pair(*leading, 7)
    of_x, of_kernel = gradients(mixed_matmul, x, kernel.astype(jnp.float32), g)
    assert of_kernel.dtype == jnp.float32 and of_x.dtype == jnp.bfloat16
    axes = tuple(range(len(leading)))
    np.testing.assert_allclose(of_kernel, np.tensordot(x64, g64, (axes, axes)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", ["conv", "dense"])
def test_layers_compute_in_their_dtype_and_keep_their_parameters(make, dtype):
    options = {"dtype": jnp.dtype(dtype), "name": "layer"}
    layer = dense_layer(7, **options) if make == "dense" else conv_layer(7, (3, 3), **options)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 5))
    variables = layer.init(jax.random.key(1), x)
    y = layer.apply(variables, x.astype(dtype))
    assert y.dtype == jnp.dtype(dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    reference = (
        dense_layer(7, dtype=jnp.float32)
        if make == "dense"
        else conv_layer(7, (3, 3), dtype=jnp.float32)
    ).apply(variables, x)
    tolerance = 1e-6 if dtype == "float32" else 0.05
    np.testing.assert_allclose(y.astype(np.float32), reference, atol=tolerance)
