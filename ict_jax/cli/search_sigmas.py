r"""Searches the noise levels of multistep sampling.

  python -m ict_jax.cli.search_sigmas --checkpoint=runs/digits --steps=2
  python -m ict_jax.cli.search_sigmas --checkpoint=runs/cifar10 --protocol=cifar10-train-50k \
    --inception_weights=pt_inception-2015-12-05-6726825d.pth

Greedy ternary search over the Karras grid of the last stage (N = 1281 in iCT), one level
after the other, as in Consistency Models: each time the level with the least Fréchet distance.
It assumes that the distance falls and then rises. With --protocol=held-out (the default) the
distance is that of the classifier's features to the validation split.

Writes sigmas.json into --out. Every distance is kept in evaluation/distances.json, so an
interrupted search that is run again goes on.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags

from ict_jax.cli import by_protocol, common, scoring_flags
from ict_jax.core.errors import require
from ict_jax.evaluation.protocols import HELD_OUT


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """The flags of this command."""
    scoring_flags.define_flags(values)
    flags.DEFINE_integer("steps", 2, "Noise levels of the longest schedule.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Searches as the flags say."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")
    steps = common.value(values, "steps")
    require(steps >= 2, f"--steps={steps} must be at least 2; one step has nothing to search.")
    held_out = common.value(values, "protocol") == HELD_OUT
    if held_out:
        scoring_flags.check_held_out(values)

    from ict_jax.config.objective import finest_grid
    from ict_jax.config.sampling import is_diffusion  # late: --help and mistakes answer at once
    from ict_jax.evaluation.search import Distances, greedy_search
    from ict_jax.runtime import processes
    from ict_jax.runtime.console import say
    from ict_jax.runtime.storage import write_at_once

    if held_out:
        model, measure, key = scoring_flags.open_held_out(values)
    else:
        model, scorer, _ = by_protocol.open_scorer(values)
        measure, key = scorer.distance, scorer.key
    require(
        not is_diffusion(model.config),
        f"--checkpoint={checkpoint} is a diffusion model; use {scoring_flags.GRID}.",
    )
    kept = Distances(model.out / "evaluation" / "distances.json")

    def distance(sigmas: Sequence[float]) -> float:
        found = kept.get(key(sigmas), lambda: measure(sigmas))
        say(f"sigmas {[round(s, 4) for s in sigmas]}: distance {found:.4f}")
        return found

    grid = finest_grid(model.config)
    schedules = greedy_search(distance, grid, steps)
    if processes.is_main():
        path = model.out / "sigmas.json"
        result = {
            "protocol": common.value(values, "protocol"),
            "step": model.step,
            "num_scales": len(grid),
            "schedules": schedules,
        }
        write_at_once(path, f"{json.dumps(result, indent=2)}\n".encode())
        for schedule in schedules:
            levels = ",".join(f"{sigma:.4g}" for sigma in schedule["sigmas"])
            say(f"{len(schedule['sigmas'])} steps: --sigmas={levels}  {schedule['distance']:.4f}")
        say(f"written: {path}")


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
