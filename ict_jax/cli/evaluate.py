r"""Score a checkpoint.

  python -m ict_jax.cli.evaluate --checkpoint=runs/digits
  python -m ict_jax.cli.evaluate --checkpoint=runs/cifar10 --protocol=cifar10-train-50k \
    --inception_weights=pt_inception-2015-12-05-6726825d.pth

Protocols:

  held-out            held-out real images of the model's data set, in the features of a small
                      classifier trained on the same set; for small sets, needs nothing else
  cifar10-train-50k   FID of 50,000 samples against CIFAR-10's training images
  imagenet64-adm-50k  FID, precision and recall of 50,000 samples against OpenAI's
                      VIRTUAL_imagenet64_labeled.npz (--reference)
  train-set           any data set's training images, in the features of --extractor

The results are scores.json (held-out) or scores_PROTOCOL.json and the grids one_step.png,
two_step.png and real.png in --out. Scored are one-step and two-step samples (for a diffusion model,
Heun's method at --steps levels, heun.png) and real images. Samples are drawn in ten parts, kept in
evaluation/ until the scores are written, so running an interrupted command again resumes it.
"""

import sys

from absl import flags

from ict_jax.cli import common, scoring_flags


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    scoring_flags.define_flags(values)
    sigmas = "Descending noise levels (default: one step and two steps)."
    second_sigma = (
        "Second noise level of two-step samples (default: chosen on the validation split for "
        "held-out, the config's for the others)."
    )
    steps = "Number of levels of the Karras grid, for diffusion models."
    save_images = "Keep the samples, as samples_N.npz for the N-th schedule."
    flags.DEFINE_string("sigmas", None, sigmas, flag_values=values)
    flags.DEFINE_float("second_sigma", None, second_sigma, flag_values=values)
    flags.DEFINE_integer("steps", None, steps, flag_values=values)
    flags.DEFINE_bool("save_images", False, save_images, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Score the checkpoint and write the results."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")
    given = {name: common.value(values, name) for name in ("sigmas", "second_sigma", "steps")}
    if given["sigmas"] is not None:
        given["sigmas"] = common.parse_sigmas(given["sigmas"])

    from ict_jax.evaluation.checkpoint import Levels  # late: --help and mistakes answer at once
    from ict_jax.evaluation.scoring import evaluate

    levels = Levels(**given)
    common.start()
    save_images = common.value(values, "save_images")
    evaluate(checkpoint, levels=levels, save_images=save_images, **scoring_flags.options(values))


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
