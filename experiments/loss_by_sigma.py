"""Compare a run's loss by noise level: as logged in each stage, and of its checkpoints at one N.

  python experiments/loss_by_sigma.py --workdir=runs/narrow --out=runs/narrow/loss_by_sigma

Each doubling of N during training changes what the logged loss measures. The untrained network and
every checkpoint are therefore also evaluated on the same held-out images, noise and pairs of levels
of the final N. Writes OUT.json and OUT.png.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import matplotlib
import numpy as np
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ict_jax
from ict_jax.checkpoints import load_ema
from ict_jax.checkpoints.directory import DIRECTORY
from ict_jax.config.check import dataset_of_checkpoint
from ict_jax.config.network import build_bind
from ict_jax.config.objective import build_discretization
from ict_jax.config.training import Config, Params, build_init_state
from ict_jax.data import Dataset
from ict_jax.training.step import SIGMA_BIN_EDGES, scale_images, sigma_bin_names


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workdir", required=True, type=Path, help="work directory of a finished run"
    )
    parser.add_argument("--out", required=True, type=Path, help="path without suffix")
    parser.add_argument("--per_bin", default=64, type=int, help="held-out images in each bin")
    arguments = parser.parse_args()
    steps = sorted(int(p.name) for p in (arguments.workdir / DIRECTORY).iterdir() if p.is_dir())
    config = load_ema(arguments.workdir, step=steps[-1]).config
    config, dataset = dataset_of_checkpoint(config, str(arguments.workdir))
    measure = make_measure(config, dataset, arguments.per_bin)
    losses = {"0": measure(jax.jit(build_init_state(config))().params)}
    for step in steps:
        losses[str(step)] = measure(load_ema(arguments.workdir, step=step).params)
        print(step, *(f"{value:9.4f}" for value in losses[str(step)]), flush=True)
    disc = build_discretization(config)
    result = {
        "bins": sigma_bin_names(),
        "num_scales": [int(n) for n in disc.num_scales],
        "logged": logged_losses(arguments.workdir, [*disc.first_steps, config.total_steps]),
        "per_bin": arguments.per_bin,
        "losses": losses,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    draw(result, arguments.out.with_suffix(".png"))


def make_measure(config: Config, dataset: Dataset, per_bin: int) -> Callable[[Params], list[float]]:
    """Return a function of the parameters: mean loss by bin of sigma_hi, at N = s1 + 1."""
    test = dataset.test
    sigmas = ict_jax.karras_sigmas(config.discretization.s1 + 1).astype(np.float32)
    bins = np.searchsorted(SIGMA_BIN_EDGES, sigmas[1:])
    bind = build_bind(config)

    @jax.jit
    def loss(params, images, labels, noise, sigma_lo, sigma_hi):
        f = bind(params, labels, None)
        return ict_jax.consistency_loss(f, scale_images(images), noise, sigma_lo, sigma_hi).mean()

    def measure(params):
        means = []
        for index in range(len(SIGMA_BIN_EDGES) + 1):
            rng = np.random.default_rng(index)
            within = np.flatnonzero(bins == index)
            if not len(within):
                means.append(float("nan"))
                continue
            lower = rng.choice(within, per_bin)
            chosen = rng.choice(len(test.images), per_bin)
            noise = rng.standard_normal((per_bin, *config.image_shape)).astype(np.float32)
            examples = (test.images[chosen], test.labels[chosen], noise)
            means.append(float(loss(params, *examples, sigmas[lower], sigmas[lower + 1])))
        return means

    return measure


def logged_losses(workdir: Path, edges: list[int]) -> list[list[float]]:
    """Return the mean logged loss of each stage in each bin; NaN where a stage has no level."""
    found: dict[str, dict[int, float]] = {name: {} for name in sigma_bin_names()}
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path))
        events.Reload()
        for name, values in found.items():
            tag = f"train/loss_by_sigma/{name}"
            if tag in events.Tags()["scalars"]:
                values |= {event.step: event.value for event in events.Scalars(tag)}
    return [
        [
            float(np.mean([v for step, v in values.items() if lo < step <= hi] or [np.nan]))
            for values in found.values()
        ]
        for lo, hi in itertools.pairwise(edges)
    ]


def draw(result: dict, path: Path) -> None:
    """Draw two panels with a curve per bin."""
    matplotlib.use("Agg")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    steps, table = [int(step) for step in result["losses"]], np.array([*result["losses"].values()])
    stages = np.array(result["logged"])
    for column, name in enumerate(result["bins"]):
        color = pyplot.get_cmap("viridis")(column / (len(result["bins"]) - 1))
        left.plot(result["num_scales"], stages[:, column], ".-", color=color)
        right.plot(steps, table[:, column] / table[0, column], ".-", label=name, color=color)
    left.set(xscale="log", yscale="log", xlabel="N of the stage", ylabel="logged loss, stage mean")
    left.set_xticks(result["num_scales"], [str(n) for n in result["num_scales"]])
    left.minorticks_off()
    right.set(yscale="log", xlabel="training step", title="the same checkpoints at one N")
    right.set_ylabel(f"held-out loss at N = {result['num_scales'][-1]:,}, untrained = 1")
    left.set_title("training")
    right.legend(title="sigma", fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
