"""Floating-point operations of a program, counted from what is traced."""

import math
from typing import Any

from jax.extend import core


def count_flops(jaxpr: Any) -> float:
    """Operations of the matrix products and convolutions, two per multiply-add.

    What the utilisation of a chip is reckoned by: nothing is counted for what is done element by
    element, and the zeros of dilated convolutions, as in gradients of strided ones, are left out.
    Loops count as often as they run, where that is known; of branches the most expensive counts.

    Args:
      jaxpr: as in `jax.make_jaxpr(f)(x)` or `jax.jit(f).trace(x).jaxpr`.
    """
    return sum(_of_equation(equation) for equation in _body(jaxpr).eqns)


def has_loops(jaxpr: Any) -> bool:
    """Whether a body is run more than once and yet stands in the program once.

    Args:
      jaxpr: as in `count_flops`.
    """
    for equation in _body(jaxpr).eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "scan" and parameters["length"] > parameters["unroll"]:
            return True
        if any(has_loops(program) for program in _programs(parameters)):
            return True
    return False


def _body(jaxpr: Any) -> core.Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _of_equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        length = math.prod(shape[axis] for axis in contracted)
        return 2.0 * equation.outvars[0].aval.size * length
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        numbers = parameters["dimension_numbers"]
        features = kernel.shape[numbers.rhs_spec[0]]
        dilated = math.prod(parameters["lhs_dilation"])
        return 2.0 * equation.outvars[0].aval.size * (kernel.size / features) / dilated
    times = parameters["length"] if name == "scan" else 1
    if name == "cond":
        return max(count_flops(branch) for branch in parameters["branches"])
    return times * sum(count_flops(program) for program in _programs(parameters))


def _programs(parameters: dict[str, Any]) -> list[Any]:
    """The programs in an equation's parameters, branches among them."""
    found = []
    for value in parameters.values():
        values = value if isinstance(value, tuple | list) else [value]
        found += [v for v in values if isinstance(v, core.Jaxpr | core.ClosedJaxpr)]
    return found
