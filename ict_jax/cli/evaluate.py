"""Scores a checkpoint against held-out real images of the data set it was trained on.

  python -m ict_jax.cli.evaluate --checkpoint=runs/digits

Fréchet distance and KID in the features of a small classifier of the same data set, and the
share classified with confidence above 0.9, for one-step and two-step samples, real images
(the floor), a moment-matched Gaussian and pure noise. Writes scores.json and the grids
one_step.png, two_step.png and real.png into --out (default: the work directory of the run).
"""

import sys

from absl import flags

from ict_jax.cli import common
from ict_jax.core.errors import require


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """The flags of this command."""
    common.define_checkpoint(values)
    flags.DEFINE_integer("num_samples", 5000, "Images drawn.", flag_values=values)
    flags.DEFINE_float(
        "second_sigma",
        None,
        "Second noise level of two-step samples (default: chosen on the validation split).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "Directory for the results (default: the work directory of the run).",
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 256, "Images drawn at once.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    checkpoint = common.required(values, "checkpoint", "--checkpoint=runs/digits")

    from ict_jax import build, checks, processes  # late: --help and mistakes answer at once
    from ict_jax.checkpoints import load_ema, locate
    from ict_jax.console import say
    from ict_jax.evaluation.run import Evaluator
    from ict_jax.files import to_path, writable_directory
    from ict_jax.sampler import Sampler
    from ict_jax.training import parallel

    processes.initialize()
    parallel.keep_compiled()
    mesh = parallel.make_mesh()
    params, config, step = load_ema(
        checkpoint,
        step=common.value(values, "step"),
        sharding=parallel.replicated(mesh),
        what="--checkpoint",
    )
    require(
        not build.is_diffusion(config),
        f"--checkpoint={checkpoint} is a diffusion model, and this command scores consistency "
        "models; draw from it with ict_jax.cli.sample.",
    )
    dataset = build.build_dataset(config)
    checks.check_classes(config, dataset)
    config = checks.resolve(config, dataset)
    # A step stands in the checkpoints directory of its work directory.
    out = to_path(common.value(values, "out") or locate(checkpoint).parent.parent)
    writable_directory(out, "--out")
    arguments = build.sampling_arguments(config)
    arguments["num_samples"] = common.value(values, "num_samples")
    second_sigma = common.value(values, "second_sigma")
    if second_sigma is not None:
        arguments["second_sigma"] = second_sigma
    sampler = Sampler(
        build.build_draw(config),
        mesh,
        **build.sampler_arguments(config),
        batch_size=common.value(values, "batch_size"),
    )
    evaluator = Evaluator(dataset, sampler, **arguments)
    say(f"scoring step {step:,} of {checkpoint}: train a classifier, compare")
    evaluator.write_scores(out, params, step, second_sigma=second_sigma)


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
