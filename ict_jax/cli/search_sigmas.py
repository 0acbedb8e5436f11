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

import sys

from absl import flags

from ict_jax.cli import common, scoring_flags
from ict_jax.core.errors import require


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    scoring_flags.define_flags(values)
    flags.DEFINE_integer("steps", 2, "Noise levels of the longest schedule.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Search as the flags say."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")
    steps = common.value(values, "steps")
    require(steps >= 2, f"--steps={steps} must be at least 2; one step has nothing to search.")

    from ict_jax.evaluation.scoring import search_sigmas  # late: mistakes answer at once

    common.start()
    search_sigmas(checkpoint, steps=steps, **scoring_flags.options(values))


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
