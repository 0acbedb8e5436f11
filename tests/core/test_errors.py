"""Every wrong argument of the method raises its one-sentence error."""

import jax
import jax.numpy as jnp
import pytest

import ict_jax

pytestmark = pytest.mark.usefixtures("user_errors")

KEYS = ict_jax.seed_keys([0, 1])
DISC = ict_jax.make_discretization(8)
X = jnp.zeros((2, 4, 4, 1))
LEVEL = jnp.ones(2)


def identity(x, sigma):
    return x


def f(x, sigma):
    return ict_jax.as_consistency_fn(lambda x, c: x)(x, sigma)


MISTAKES = {
    "sigma_min above sigma_max": (
        lambda: ict_jax.karras_sigmas(5, sigma_min=80, sigma_max=0.002),
        r"sigma_min=80 and sigma_max=0.002 must satisfy .*; give the smaller",
    ),
    "sigma_min zero": (
        lambda: ict_jax.make_discretization(8, sigma_min=0.0),
        "sigma_min=0.0 .* must satisfy 0 < sigma_min",
    ),
    "rho": (
        lambda: ict_jax.karras_sigmas(5, rho=0),
        "rho=0 must be between 1 and 100; the paper has 7",
    ),
    "one level": (
        lambda: ict_jax.karras_sigmas(1),
        "num_scales=1 must be a whole number of at least 2.*raise it",
    ),
    "too few steps": (
        lambda: ict_jax.make_discretization(7),
        "total_steps=7 is fewer than the 8 stages of s0=10, s1=1280; train longer",
    ),
    "no steps": (
        lambda: ict_jax.make_discretization(0),
        "total_steps=0 must be a whole number from 1",
    ),
    "s1 below s0": (
        lambda: ict_jax.make_discretization(8, s0=20, s1=10),
        "s0=20 and s1=10 must be whole and satisfy 1 <= s0 <= s1",
    ),
    "half a level": (lambda: ict_jax.karras_sigmas(5.5), "num_scales=5.5 must be a whole number"),
    "float steps": (
        lambda: ict_jax.make_discretization(4e5),
        "total_steps=400000.0 must be a whole",
    ),
    "too many steps": (lambda: ict_jax.make_discretization(10**9), "must be a whole number from 1"),
    "metric of a wrong shape": (
        lambda: ict_jax.consistency_loss(f, X, X, LEVEL, 2 * LEVEL, metric=lambda a, b: a - b),
        r"the metric returned shape \(2, 4, 4, 1\), expected one value per example, \(2,\)",
    ),
    "weight of a wrong shape": (
        lambda: ict_jax.consistency_loss(f, X, X, LEVEL, 2 * LEVEL, weight=lambda a, b: 1 + X),
        "the weight returned shape",
    ),
    "prediction and target": (
        lambda: ict_jax.pseudo_huber(X, X[:1], c=1.0),
        r"prediction has shape \(2, 4, 4, 1\) and target \(1, 4, 4, 1\)",
    ),
    "negative seed": (lambda: ict_jax.seed_keys([-1]), r"seeds=\[-1\] must be a list of whole"),
    "huge seed": (lambda: ict_jax.seed_keys([2**32]), "from 0 to 2\\^32 - 1; use range"),
    "fractional seed": (lambda: ict_jax.seed_keys([1.7]), r"seeds=\[1.7\] must be a list of whole"),
    "sigma in place of a list": (
        lambda: ict_jax.sample(f, KEYS, (4,), 80.0),
        r"sigmas=80.0 must be a list and .*; use \(80.0,\)",
    ),
    "p_std": (lambda: ict_jax.make_discretization(8, p_std=0), "p_std=0 must be positive"),
    "law out of range": (
        lambda: ict_jax.make_discretization(8, p_mean=1000.0),
        "the noise law returned weights with sum 0.0 .*bring its parameters nearer",
    ),
    "law of a wrong shape": (
        lambda: ict_jax.make_discretization(8, noise_law=lambda s: jnp.ones(3)),
        r"the noise law returned shape \(3,\) for N=11",
    ),
    "curriculum": (
        lambda: ict_jax.make_discretization(8, curriculum=lambda k, s0, s1: [ict_jax.Stage(1, 5)]),
        r"curriculum's first steps are \[1\]; they must begin with 0",
    ),
    "sigma_data": (
        lambda: ict_jax.boundary_scalings(LEVEL, sigma_data=0),
        "sigma_data=0 must be positive; use the data's RMS",
    ),
    "uint8 data": (
        lambda: f(jnp.zeros((2, 4), jnp.uint8), LEVEL),
        r"x has dtype uint8, expected float32; for uint8 images use x / 127.5 - 1",
    ),
    "bfloat16 data": (
        lambda: f(jnp.zeros((2, 4), jnp.bfloat16), LEVEL),
        "x has dtype bfloat16, expected float32; .* leave lower precision to the network",
    ),
    "data without a batch axis": (
        lambda: f(jnp.zeros(4), LEVEL),
        r"x has shape \(4,\), expected a batch axis and at least one more; .* use x\[None\]",
    ),
    "scalar sigma": (
        lambda: f(X, jnp.float32(1)),
        r"sigma has shape \(\) .* expected one float per example, shape \(2,\)",
    ),
    "integer sigma": (lambda: f(X, jnp.ones(2, int)), "sigma has shape .* dtype int32, expected"),
    "network of another shape": (
        lambda: ict_jax.as_consistency_fn(lambda x, c: x[..., 0])(X, LEVEL),
        r"the network returned shape \(2, 4, 4\) for input of shape \(2, 4, 4, 1\)",
    ),
    "noise of another shape": (
        lambda: ict_jax.consistency_loss(f, X, X[0], LEVEL, LEVEL),
        r"noise has shape \(4, 4, 1\), expected x's \(2, 4, 4, 1\)",
    ),
    "sigma of a wrong rank in the loss": (
        lambda: ict_jax.consistency_loss(identity, X, X, LEVEL[:, None], LEVEL),
        r"sigma has shape \(2, 1\)",
    ),
    "huber_c": (
        lambda: ict_jax.ict_loss(f, X, KEYS[0], 0, DISC, huber_c=0.0),
        "huber_c=0.0 must be positive; the paper has 0.00054",
    ),
    "huber_c beside a metric": (
        lambda: ict_jax.ict_loss(
            f, X, KEYS[0], 0, DISC, huber_c=1.0, metric=ict_jax.squared_distance
        ),
        "huber_c=1.0 and a metric were both given; .* leave one of them out",
    ),
    "no sigmas": (
        lambda: ict_jax.sample(f, KEYS, (4,), ()),
        r"sigmas is empty, expected at least one noise level; use \(80.0,\)",
    ),
    "ascending sigmas": (
        lambda: ict_jax.sample(f, KEYS, (4,), (0.8, 80.0)),
        r"sigmas=\[0.8, 80.0\] must descend strictly; sort them",
    ),
    "sigmas below sigma_min": (
        lambda: ict_jax.sample(f, KEYS, (4,), (80.0, 0.001)),
        "must be finite and at least sigma_min=0.002; leave out the smaller",
    ),
    "infinite sigma": (
        lambda: ict_jax.sample(f, KEYS, (4,), (float("inf"),)),
        "must be finite and at least",
    ),
    "one key for many": (
        lambda: ict_jax.sample(f, jax.random.key(0), (4,)),
        r"keys has shape \(\) .*, expected a vector of typed random keys; .*seed_keys",
    ),
    "raw keys": (
        lambda: ict_jax.sample(f, jnp.zeros((3, 2), jnp.uint32), (4,)),
        "keys has shape .* dtype uint32, expected a vector of typed",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_sentence(name):
    call, message = MISTAKES[name]
    with pytest.raises(ict_jax.ArgumentError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
