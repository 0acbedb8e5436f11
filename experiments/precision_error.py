"""Measure what low precision leaves of the difference between adjacent noise levels.

  python -m experiments.precision_error                            # cifar10_ict, as initialised
  python -m experiments.precision_error --checkpoint=runs/fashion  # a trained network

Consistency training compares f at adjacent levels, which on the finest grid, N = 1281, are close.
For levels over the whole range this prints, over a batch, the norm of f(x_hi) - f(x_lo) in float32,
and the norm of its error relative to it in three low precisions:

  bfloat16   model.dtype="bfloat16"
  TPU        float32 with factors rounded to bfloat16, the default of TPUs
  TF32       float32 with factors rounded to 10 bits, the default of GPUs

The last column is the largest of the three errors in units of the Pseudo-Huber c. TPU and TF32 are
emulated in convolutions and dense layers, not in attention. Dropout is off. The zero-initialised
layers of an untrained network get random weights like the others; x is smooth noise with the
standard deviation of the data.
"""

import argparse
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import ict_jax
from configs import cifar10_ict
from ict_jax.checkpoints import load_ema
from ict_jax.config.check import resolve
from ict_jax.config.network import build_bind, build_init_params, num_classes

FINEST = 1281


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", help="checkpoint of a run; default: initial parameters")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--levels", type=int, default=12)
    arguments = parser.parse_args()
    if arguments.checkpoint:
        params, config, _ = load_ema(arguments.checkpoint)
    else:
        config = resolve(cifar10_ict.get_config(), None)
        params = fill_zeros(build_init_params(config)(jax.random.key(0)))
    exact_fn = consistency_fn(config, params, "float32")
    rough_fns = {
        "bfloat16": consistency_fn(config, params, "bfloat16"),
        "TPU": consistency_fn(config, params, "float32", mantissa_bits=7),
        "TF32": consistency_fn(config, params, "float32", mantissa_bits=10),
    }
    shape = (arguments.batch_size, *config.image_shape)
    c = ict_jax.default_huber_c(int(np.prod(shape[1:])))
    disc = config.discretization
    sigmas = ict_jax.karras_sigmas(
        FINEST, sigma_min=disc.sigma_min, sigma_max=disc.sigma_max, rho=disc.rho
    )
    x = smooth(jax.random.key(1), shape, config.precondition.sigma_data)
    noise = jax.random.normal(jax.random.key(2), shape)
    print(f"N = {FINEST}, c = {c:.4f}\n  sigma_hi  difference", end=" ")
    print(*(f"{n:>9}" for n in rough_fns), " error/c")
    # Equally far apart in log sigma, each rounded to the nearest level of the grid.
    chosen = np.geomspace(sigmas[1], sigmas[-1], arguments.levels)
    for index in np.unique(np.abs(sigmas[:, None] - chosen).argmin(0)):
        lo, hi = ((x + s * noise, jnp.full(len(x), s)) for s in sigmas[index - 1 : index + 1])
        exact = exact_fn(*hi) - exact_fn(*lo)
        errors = [norm(f(*hi) - f(*lo) - exact) for f in rough_fns.values()]
        numbers = [f"{sigmas[index]:10.4f} {norm(exact):11.5f}"]
        numbers += [f"{error / norm(exact):9.3f}" for error in errors]
        print(*numbers, f"{max(errors) / c:8.3f}", flush=True)


def consistency_fn(config: Any, params: Any, dtype: str, mantissa_bits: int | None = None) -> Any:
    """Return the jitted f in a dtype, its factors rounded to so many bits."""
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    classes = num_classes(config)

    def rounded(a: jax.Array) -> jax.Array:
        if mantissa_bits is None:
            return a
        return jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=mantissa_bits)

    def round_inputs(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Conv | nn.Dense):
            args = tuple(map(rounded, args))
        return call(*args, **kwargs)

    def f(x: jax.Array, sigma: jax.Array) -> jax.Array:
        labels = jnp.arange(len(x)) % classes if classes else None
        kernels = jax.tree.map(lambda p: rounded(p) if p.ndim > 1 else p, params)
        with nn.intercept_methods(round_inputs):
            return build_bind(config)(kernels, labels, None)(x, sigma)

    return jax.jit(f)


def fill_zeros(params: Any) -> Any:
    """Replace kernels of zeros by random ones, so that every layer has an effect."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))

    def fill(leaf: jax.Array, key: jax.Array) -> jax.Array:
        if leaf.ndim < 2 or jnp.abs(leaf).max() > 1e-4:
            return leaf
        fan_in = leaf.size / leaf.shape[-1]
        return jax.random.normal(key, leaf.shape) * fan_in**-0.5

    return jax.tree.unflatten(tree, map(fill, leaves, keys))


def smooth(key: jax.Array, shape: tuple[int, ...], deviation: float) -> jax.Array:
    """Return noise with little fine detail, like images."""
    small = jax.random.normal(key, (shape[0], shape[1] // 4, shape[2] // 4, shape[3]))
    x = jax.image.resize(small, shape, "cubic")
    return jnp.clip(x * deviation / x.std(), -1, 1)


def norm(x: jax.Array) -> float:
    """Return the root mean square over the batch of the norm of an example."""
    return float(jnp.sqrt(jnp.sum(x**2) / len(x)))


if __name__ == "__main__":
    main()
