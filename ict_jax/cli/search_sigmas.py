r"""Search the noise levels of multistep sampling.

  python -m ict_jax.cli.search_sigmas --checkpoint=runs/digits --steps=2
  python -m ict_jax.cli.search_sigmas --checkpoint=runs/cifar10 --protocol=cifar10-train-50k \
    --inception_weights=pt_inception-2015-12-05-6726825d.pth

Greedy ternary search over the Karras grid of the last stage (N = 1281 in iCT), one level after the
other, as in Consistency Models, for the least Fréchet distance, assuming that it falls and then
rises. With --protocol=held-out (the default) the distance is that of the classifier's features to
the validation split.

The result is sigmas.json in --out. Every distance is kept in evaluation/distances.json, so running
an interrupted search again resumes it.
"""

import sys

from absl import flags

from ict_jax.cli import common, scoring_flags


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    scoring_flags.define_flags(values)
    flags.DEFINE_integer("steps", 2, "Noise levels of the longest schedule.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Search the noise levels and write the result."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")

    from ict_jax.evaluation.scoring import search_sigmas  # late: mistakes answer at once

    common.start()
    search_sigmas(checkpoint, steps=common.value(values, "steps"), **scoring_flags.options(values))


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
