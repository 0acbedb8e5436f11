"""FLOPs of a traced program."""

import math
from typing import Any

from jax.extend import core


def count_flops(jaxpr: Any) -> float:
    """Count the FLOPs of matrix products and convolutions, two per multiply-add, as MFU does.

    Elementwise work and the zeros of dilated convolutions, as in gradients of strided ones, do not
    count. A loop counts once per iteration, where their number is known; of several branches the
    most expensive counts. A jaxpr is `jax.make_jaxpr(f)(x)` or `jax.jit(f).trace(x).jaxpr`.
    """
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def has_loops(jaxpr: Any) -> bool:
    """Return whether the program contains a loop that is not fully unrolled."""
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "scan" and parameters["length"] > parameters["unroll"]:
            return True
        if any(map(has_loops, core.jaxprs_in_params(parameters))):
            return True
    return False


def _equation_flops(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        # 2 * outputs * contracted length
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        length = math.prod(shape[axis] for axis in contracted)
        return 2.0 * equation.outvars[0].aval.size * length
    if name == "conv_general_dilated":
        # 2 * outputs * kernel size per output feature, less the share that meets inserted zeros
        kernel = equation.invars[1].aval
        numbers = parameters["dimension_numbers"]
        features = kernel.shape[numbers.rhs_spec[0]]
        dilated = math.prod(parameters["lhs_dilation"])
        return 2.0 * equation.outvars[0].aval.size * (kernel.size / features) / dilated
    if name == "cond":
        return max(count_flops(branch) for branch in parameters["branches"])
    times = parameters["length"] if name == "scan" else 1
    return times * sum(map(count_flops, core.jaxprs_in_params(parameters)))
