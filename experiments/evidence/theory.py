"""The toy of iCT's Section 3.2 and its Figure 1 (a), recomputed with this project's functions.

  python -m experiments.evidence.theory

Writes results/theory.json and two figures into docs/images; takes seconds, in float64.

The toy: data are one number xi, f_theta(x, s) = (a / s) x + (1 - a / s) theta with a = sigma_min,
a linear grid (rho = 1) from a to b, i uniform, lambda = 1, squared l2. Proposition 1 gives the
limits of loss and gradient as N grows, with a teacher theta^- equal to the student and another one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ict_jax
from experiments.evidence.run import RESULTS
from ict_jax.core.losses import unit_weight
from ict_jax.models.layers import positional_embedding
from ict_jax.runtime.storage import write_atomically

A, B, XI, THETA = 0.002, 80.0, 0.7, 1.2
COUNTS = (11, 101, 1281, 10_001, 100_001, 1_000_001)
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
RATES = (0.0, 0.9, 0.99)


def loss(theta: Any, teacher: Any, num_scales: int, a: float, b: float) -> Any:
    """Average the loss over all pairs of the grid; it does not depend on the noise."""
    grid = jnp.asarray(ict_jax.karras_sigmas(num_scales, sigma_min=a, sigma_max=b, rho=1.0))

    def bound(parameter: Any) -> Any:
        def f(x: Any, sigma: Any) -> Any:
            share = (a / sigma)[:, None]
            return share * x + (1 - share) * parameter

        return f

    x = jnp.full((num_scales - 1, 1), XI)
    return ict_jax.consistency_loss(
        bound(theta),
        x,
        jnp.ones_like(x),
        grid[:-1],
        grid[1:],
        teacher=bound(teacher),
        metric=ict_jax.squared_distance,
        weight=unit_weight,
    ).mean()


def limits(a: float, b: float) -> tuple[float, float]:
    """Compute E[(1 - a/s)^2] and E[(a/s^2)(1 - a/s)] for s uniform in [a, b]."""
    inverse = 1 / a - 1 / b
    first = 1 - 2 * a * np.log(b / a) / (b - a) + a**2 * inverse / (b - a)
    second = (a * inverse - a**2 / 2 * (1 / a**2 - 1 / b**2)) / (b - a)
    return float(first), float(second)


def proposition() -> dict[str, Any]:
    """Compute loss and gradient over the gap at growing N, and their limits."""
    of_loss, of_gradient = limits(A, B)
    found: dict[str, Any] = {
        "limit of the loss over (theta - theta^-)^2": of_loss,
        "limit of the gradient over the gap, theta^- = theta": 2 * of_gradient * (THETA - XI),
    }
    gradient = jax.grad(loss)
    for teacher in (THETA, 1.0, 1.4):
        rows = []
        for n in COUNTS:
            gap = (B - A) / (n - 1)
            value = float(loss(THETA, teacher, n, A, B))
            rows.append([n, value, float(gradient(THETA, teacher, n, A, B)) / gap])
        found[f"N, loss, gradient over the gap: theta = {THETA}, theta^- = {teacher}"] = rows
    return found


def descent(rate: float, num_scales: int, *, steps: int = 4000, size: float = 0.05) -> float | str:
    """Return theta after gradient descent on loss / gap, with theta^- its EMA of that rate."""
    a, b = 0.1, 1.0
    gradient = jax.grad(loss)
    gap = (b - a) / (num_scales - 1)

    def step(_: Any, both: Any) -> Any:
        theta, teacher = both
        theta = theta - size * gradient(theta, teacher, num_scales, a, b) / gap
        return theta, rate * teacher + (1 - rate) * theta

    theta = float(jax.lax.fori_loop(0, steps, step, (2.0, 2.0))[0])
    return theta if np.isfinite(theta) else "diverged"


def embeddings() -> dict[str, Any]:
    """Compute the mean absolute change of the noise embedding from level to level, N = 1281."""
    c_noise = 0.25 * np.log(ict_jax.karras_sigmas(1281))
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(64)

    def fourier(scale: float) -> np.ndarray:
        angles = 2 * np.pi * np.outer(c_noise, scale * normal)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def positional(factor: float) -> np.ndarray:
        return np.asarray(positional_embedding(jnp.asarray(factor * c_noise), 128))

    features = {
        "Fourier, scale 16": fourier(16.0),
        "Fourier, scale 0.02": fourier(0.02),
        "positional": positional(1.0),
        "positional, times 1000": positional(1000.0),
    }
    return {name: np.abs(np.diff(f, axis=0)).mean(1).tolist() for name, f in features.items()}


def main() -> None:
    """Compute and draw."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with jax.enable_x64(True):
        found = {"proposition 1": proposition()}
        found["theta after descent on loss / gap, by mu and N; xi = 0.7"] = {
            f"mu = {rate}": {str(n): descent(rate, n) for n in (11, 101, 1001)} for rate in RATES
        }
        changes = embeddings()
    found["mean change of the embedding"] = {k: float(np.mean(v)) for k, v in changes.items()}
    text = json.dumps(found, indent=1)
    print(text)
    write_atomically(RESULTS / "theory.json", f"{text}\n".encode())
    draw(found["proposition 1"], changes)


def draw(proposition_1: dict[str, Any], changes: dict[str, Any]) -> None:
    """Draw the figures."""
    from matplotlib.figure import Figure

    figure = Figure((9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows in proposition_1.items():
        if not name.startswith("N, loss"):
            continue
        counts, losses, gradients = np.array(rows).T
        label = name.split("theta = 1.2, ")[1].replace("theta^-", r"$\theta^-$")
        left.loglog(counts, losses, "o-", label=label)
        right.plot(counts, gradients, "o-", label=label)
    right.set_xscale("log")
    right.set_yscale("symlog", linthresh=1e-3)
    left.set(title=r"loss, $\theta$ = 1.2", xlabel="N")
    right.set(title="gradient over the gap", xlabel="N")
    right.axhline(0, color="0.8", zorder=0)
    left.legend()
    figure.savefig(IMAGES / "proposition_1.svg", metadata={"Date": None})

    figure = Figure((9, 3.2), layout="constrained")
    axes = figure.subplots()
    sigmas = ict_jax.karras_sigmas(1281)[1:]
    for name, change in changes.items():
        axes.loglog(sigmas, change, label=f"{name}: mean {np.mean(change):.2g}")
    axes.set(xlabel="sigma", ylabel="mean absolute change")
    axes.legend()
    figure.savefig(IMAGES / "embedding_sensitivity.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
