"""The limits of consistency training and distillation at N levels, without a network.

  python -m experiments.evidence.order

Writes results/order.json and docs/images/order_in_n.svg; takes a few minutes on one core.

Data are one number from a mixture of three normal distributions. A model that can be any function
minimises the loss at each (x, sigma) separately, given its values at the level below: with squared
l2 it is the mean E[f(x_i) | x_{i+1}], with Pseudo-Huber the point of least mean distance, with
distillation f at the end of one solver step. Level by level this gives the trained model exactly,
up to quadrature (on a grid of x, in float64). The truth is known: in one dimension the flow keeps
the order of points, so f(x, sigma) is the quantile of the data at the rank of x.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import softmax
from scipy.stats import norm

import ict_jax
from experiments.evidence.run import RESULTS
from experiments.evidence.theory import IMAGES
from ict_jax.runtime.storage import write_atomically

CENTRES, WEIGHTS = np.array([-0.7, 0.1, 0.6]), np.array([0.5, 0.3, 0.2])
SPREADS = (0.12, 0.3)
"""Standard deviation of each mode: separate modes, and overlapping ones."""
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
C = 0.00054  # of one number
COUNTS = (11, 21, 41, 81, 161, 321, 641)
POINTS, NODES = 500, 128
"""Number of points x at each level, and of quantiles of each mode."""

Function = Callable[[np.ndarray], np.ndarray]
Method = Callable[["Mixture", Function, np.ndarray, float, float], np.ndarray]
"""f at x at the higher of two levels, from f at the lower one."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Distribution of the data with noise.

    Attributes:
      spread: standard deviation of each mode without noise.
    """

    spread: float

    def spread_at(self, sigma: float) -> float:
        """Return the standard deviation of each mode with noise."""
        return float(np.hypot(self.spread, sigma))

    def span(self, sigma: float, spreads: float) -> tuple[float, float]:
        """Return a range of x that ends so many standard deviations outside the modes."""
        margin = spreads * self.spread_at(sigma)
        return CENTRES.min() - margin, CENTRES.max() + margin

    def grid_at(self, sigma: float) -> np.ndarray:
        """Return the points for f at a level: half of them evenly spaced in x, half in f."""
        low, high = self.span(sigma, 5)
        ranks = self.rank(np.linspace(*self.span(SIGMA_MIN, 4), POINTS // 2), SIGMA_MIN)
        points = np.union1d(np.linspace(low, high, POINTS // 2), self.quantile(ranks, sigma))
        return points[np.diff(points, append=np.inf) > 1e-9 * (high - low)]

    def shares(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Compute the probabilities of the three modes given x [n], as [n, 3]."""
        logits = -((x[:, None] - CENTRES) ** 2) / (2 * self.spread_at(sigma) ** 2)
        return softmax(np.log(WEIGHTS) + logits, axis=1)

    def means(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Compute E[data | x, mode] as [n, 3]."""
        both = sigma**2 * CENTRES + self.spread**2 * x[:, None]
        return both / self.spread_at(sigma) ** 2

    def denoise(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Compute E[data | x]."""
        return (self.shares(x, sigma) * self.means(x, sigma)).sum(1)

    def rank(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Compute the cumulative distribution at each x."""
        return norm.cdf((x[:, None] - CENTRES) / self.spread_at(sigma)) @ WEIGHTS

    def quantile(self, ranks: np.ndarray, sigma: float) -> np.ndarray:
        """Invert `rank` by bisection."""
        low, high = (np.full(len(ranks), end) for end in self.span(sigma, 6))
        for _ in range(60):
            middle = (low + high) / 2
            above = self.rank(middle, sigma) > ranks
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2

    def truth(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Compute the true consistency function: the quantile at sigma_min of the rank at sigma."""
        return self.quantile(self.rank(x, sigma), SIGMA_MIN)

    def below(self, x: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return nodes and weights of x_i given x_{i+1} = x, as [n, 3 * NODES].

        x_i = (1 - r) data + r x with r = low / high, and the data of a mode given x are normal.
        """
        ratio = low / high
        quantiles = norm.ppf((np.arange(NODES) + 0.5) / NODES)
        quantiles /= quantiles.std()  # so that the variance is exact
        width = (1 - ratio) * self.spread * high / self.spread_at(high)
        centres = (1 - ratio) * self.means(x, high) + ratio * x[:, None]
        nodes = centres[:, :, None] + width * quantiles
        weights = np.repeat(self.shares(x, high) / NODES, NODES, axis=1)
        return nodes.reshape(len(x), -1), weights


def least_mean_distance(values: np.ndarray, weights: np.ndarray, c: float) -> np.ndarray:
    """Compute argmin_u of sum_j w_j sqrt((u - v_j)^2 + c^2) by bisection."""
    low, high = values.min(1), values.max(1)
    for _ in range(25):
        middle = (low + high) / 2
        gap = middle[:, None] - values
        rising = (weights * gap / np.sqrt(gap**2 + c**2)).sum(1) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return (low + high) / 2


def by_mean(data: Mixture, f: Function, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Apply consistency training with squared l2."""
    nodes, weights = data.below(x, low, high)
    return (weights * f(nodes)).sum(1)


def by_huber(c: float) -> Method:
    """Return consistency training with Pseudo-Huber."""

    def step(data: Mixture, f: Function, x: np.ndarray, low: float, high: float) -> np.ndarray:
        nodes, weights = data.below(x, low, high)
        return least_mean_distance(f(nodes), weights, c)

    return step


def by_euler(data: Mixture, f: Function, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Apply distillation with one step of Euler's method."""
    return f(x + (low - high) * (x - data.denoise(x, high)) / high)


def by_heun(data: Mixture, f: Function, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Apply distillation with one step of Heun's method."""
    first = (x - data.denoise(x, high)) / high
    end = x + (low - high) * first
    return f(x + (low - high) * (first + (end - data.denoise(end, low)) / low) / 2)


METHODS = {
    "CT, squared l2": by_mean,
    "iCT, c = 0.00054": by_huber(C),
    "iCT, c = 0.0054": by_huber(10 * C),
    "iCT, c = 0.054": by_huber(100 * C),
    "CD, Euler": by_euler,
    "CD, Heun": by_heun,
}


def trained(method: Method, data: Mixture, num_scales: int) -> Function:
    """Return f(x, sigma_max) of a model that can be any function, trained at so many levels."""
    grid = ict_jax.karras_sigmas(num_scales, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    levels = np.asarray(grid, np.float64)
    x = data.grid_at(levels[0])
    values = x.copy()
    for low, high in itertools.pairwise(levels):
        f = PchipInterpolator(x, values)
        edges = x[0], x[-1]

        def clipped(nodes: np.ndarray, f: Function = f, edges: tuple = edges) -> np.ndarray:
            return f(np.clip(nodes, *edges))

        x = data.grid_at(high)
        values = method(data, clipped, x, low, high)
    return PchipInterpolator(x, values)


def main() -> None:
    """Compute and draw."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    found = {f"standard deviation {spread:g}": errors_of(Mixture(spread)) for spread in SPREADS}
    text = json.dumps({"root mean square error at sigma = 80, by N": found}, indent=1)
    write_atomically(RESULTS / "order.json", f"{text}\n".encode())
    draw(found)


def errors_of(data: Mixture) -> dict[str, dict[str, float]]:
    """Compute the root mean square errors at sigma_max by method and N."""
    ranks = (np.arange(400) + 0.5) / 400
    x = SIGMA_MAX * norm.ppf(ranks) + WEIGHTS @ CENTRES
    true, found = data.truth(x, SIGMA_MAX), {}
    for name, method in METHODS.items():
        gaps = {n: trained(method, data, n)(x) - true for n in COUNTS}
        found[name] = {str(n): float(np.sqrt(np.mean(gap**2))) for n, gap in gaps.items()}
        print(data, name, found[name], flush=True)
    return found


def draw(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Draw the figure."""
    from matplotlib.figure import Figure

    figure = Figure((9, 3.6), layout="constrained")
    all_axes = figure.subplots(1, len(found), sharey=True)
    for axes, (title, errors) in zip(all_axes, found.items(), strict=True):
        for name, values in errors.items():
            axes.loglog([int(n) for n in values], list(values.values()), "o-", label=name)
        axes.set(title=f"modes of {title}", xlabel="N")
    figure.axes[0].set(ylabel="error of f at sigma = 80")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(IMAGES / "order_in_n.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
