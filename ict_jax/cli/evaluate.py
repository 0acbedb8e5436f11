r"""Scores a checkpoint.

  python -m ict_jax.cli.evaluate --checkpoint=runs/digits
  python -m ict_jax.cli.evaluate --checkpoint=runs/cifar10 --protocol=cifar10-train-50k \
    --inception_weights=pt_inception-2015-12-05-6726825d.pth

--protocol says how:

  held-out            held-out real images of the model's data set, in the features of a small
                      classifier of the same set: for small sets, and needs nothing else
  cifar10-train-50k   FID of 50,000 samples against CIFAR-10's training images
  imagenet64-adm-50k  FID, precision and recall of 50,000 samples against OpenAI's
                      VIRTUAL_imagenet64_labeled.npz (--reference)
  train-set           any data set's training images, in the features of --extractor

Writes scores.json (held-out) or scores_PROTOCOL.json and the grids one_step.png, two_step.png and
real.png into --out. Scores are of one-step and two-step samples, of a diffusion model of Heun's
method at --steps levels (heun.png), and of real images. Samples are drawn in ten parts that are
kept in evaluation/ until the scores are written, so an interrupted command that is run again goes
on.
"""

import sys

from absl import flags

from ict_jax.cli import common, scoring_flags


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    scoring_flags.define_flags(values)
    flags.DEFINE_string(
        "sigmas",
        None,
        "Descending noise levels (default: one step and two steps).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "second_sigma",
        None,
        "Second noise level of two-step samples (default: held-out: chosen on the validation "
        "split; by other protocols: the config's).",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "Noise levels of the Karras grid, for diffusion models.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "save_images",
        False,
        "Keep the samples: samples_N.npz of the N-th schedule.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Evaluate as the flags say."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")
    sigmas, second_sigma, steps = (
        common.value(values, name) for name in ("sigmas", "second_sigma", "steps")
    )
    sigmas = None if sigmas is None else common.parse_sigmas(sigmas)

    from ict_jax.evaluation.checkpoint import Levels  # late: --help and mistakes answer at once
    from ict_jax.evaluation.scoring import evaluate

    levels = Levels(sigmas=sigmas, second_sigma=second_sigma, steps=steps)
    common.start()
    save_images = common.value(values, "save_images")
    evaluate(checkpoint, levels=levels, save_images=save_images, **scoring_flags.options(values))


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
