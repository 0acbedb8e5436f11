"""Operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from ict_jax.training.flops import count_flops, has_loops


def counted(function, *shapes):
    return count_flops(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)))


def test_products():
    assert counted(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert counted(jnp.matmul, (4, 3, 5), (4, 5, 7)) == 2 * 4 * 3 * 5 * 7
    assert counted(jnp.add, (3, 5), (3, 5)) == 0


def convolve(x, kernel, stride=1, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(stride):
    """Each of the two gradients costs as much as the convolution."""
    side, shapes = 8 // stride, [(2, 8, 8, 3), (3, 3, 3, 6)]
    once = 2 * (2 * side * side * 6) * (3 * 3 * 3)

    def loss(x, kernel):
        return convolve(x, kernel, stride).sum()

    assert counted(lambda x, k: convolve(x, k, stride), *shapes) == once
    gradients = counted(jax.value_and_grad(loss, argnums=(0, 1)), *shapes)
    assert gradients == pytest.approx(3 * once, rel=0.35)  # more places, with padding


def test_grouped_convolutions():
    grouped = counted(lambda x, k: convolve(x, k, groups=3), (1, 8, 8, 3), (3, 3, 1, 6))
    assert grouped == 2 * (8 * 8 * 6) * (3 * 3 * 1)


def test_loops_and_branches():
    def step(x, _):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x), None

    looped = counted(lambda x: jax.lax.scan(step, x, length=5)[0], (4, 4))
    assert looped == 5 * 2 * (2 * 4 * 4 * 4)
    nested = counted(jax.jit(lambda x: jax.checkpoint(lambda x: x @ x)(x)), (4, 4))
    assert nested == 2 * 4 * 4 * 4


def test_loops_stand_in_a_program_once():
    def looped(x, **options):
        return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=4, **options)[0]

    def has(function):
        return has_loops(jax.make_jaxpr(jax.jit(function))(1.0))

    assert has(looped) and has(lambda x: jax.lax.cond(x > 0, looped, jnp.sin, x))
    assert not has(jnp.sin) and not has(lambda x: looped(x, unroll=4))
