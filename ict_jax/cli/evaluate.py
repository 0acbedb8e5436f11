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

Writes scores.json and the grids one_step.png, two_step.png and real.png (held-out), or
scores_PROTOCOL.json, into --out. Scores are of one-step and two-step samples, of a diffusion model
of Heun's method at --steps levels (heun.png), and of real images. By protocol, samples are drawn in
ten parts that are kept in evaluation/ until the scores are written, so an interrupted command that
is run again goes on.
"""

import json
import sys

from absl import flags

from ict_jax.cli import by_protocol, common, scoring_flags
from ict_jax.core.errors import require
from ict_jax.evaluation.protocols import HELD_OUT


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """The flags of this command."""
    scoring_flags.define_flags(values)
    flags.DEFINE_string(
        "sigmas",
        None,
        "Descending noise levels, by protocol (default: one step and two steps).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "second_sigma",
        None,
        "Second noise level of two-step samples (default: held-out: chosen on the validation "
        "split; by protocol: the config's).",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps", None, "Noise levels of the Karras grid, for diffusion models.", flag_values=values
    )
    flags.DEFINE_bool(
        "save_images",
        False,
        "Keep the samples, by protocol: samples_N.npz of the N-th schedule.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    common.required(values, "checkpoint", "--checkpoint=runs/digits")
    if common.value(values, "protocol") == HELD_OUT:
        _held_out(values)
    else:
        _by_protocol(values)


def _by_protocol(values: flags.FlagValues) -> None:
    from ict_jax.evaluation.protocol_scorer import table
    from ict_jax.runtime import processes  # late: --help and mistakes answer at once
    from ict_jax.runtime.console import say
    from ict_jax.runtime.storage import write_at_once

    keep_images = common.value(values, "save_images")
    model, scorer, record = by_protocol.open_scorer(values, keep_images=keep_images)
    protocol = record["protocol"]
    levels = scoring_flags.schedules(
        model.config, *(common.value(values, name) for name in ("sigmas", "second_sigma", "steps"))
    )
    say(f"step {model.step:,} of {record['checkpoint']}, {protocol}: {record['n']:,} samples")
    found = {name: {"sigmas": list(s), **scorer.scores(s)} for name, s in levels.items()}
    if model.dataset is not None and model.dataset.test.size >= 4:
        found["real"] = scorer.floor(model.dataset.test)
        for name, sigmas in levels.items():
            as_many = scorer.distance_of_first(sigmas, found["real"]["n"])
            found[name]["distance_of_as_many_as_real"] = as_many
    path = model.out / f"scores_{protocol}.json"
    if processes.is_main():
        text = json.dumps({**record, "scores": found}, indent=2)
        write_at_once(path, f"{text}\n".encode())
    for number, sigmas in enumerate(levels.values(), 1):
        if keep_images:
            scorer.save_images(sigmas, model.out / f"samples_{number}.npz")
        scorer.clear(sigmas)
    say(table(found, scorer.extractor.name))
    for name, row in found.items():
        if "warning" in row:
            say(f"NOTE, {name}: {row['warning']}")
    say(f"written: {path}")


def _held_out(values: flags.FlagValues) -> None:
    scoring_flags.check_held_out(values, ("sigmas", "labels", "first_seed", "save_images"))
    from ict_jax.config.sampling import (  # late: --help and mistakes answer at once
        build_draw,
        grid,
        is_diffusion,
        sampler_arguments,
        sampling_arguments,
    )
    from ict_jax.evaluation.evaluator import Evaluator
    from ict_jax.evaluation.sampler import Sampler
    from ict_jax.runtime.console import say

    checkpoint = common.value(values, "checkpoint")
    scoring_flags.start()
    model = scoring_flags.open_model(values, with_data=True)
    assert model.dataset is not None
    arguments = sampling_arguments(model.config)
    names = ("num_samples", "second_sigma", "steps")
    given, second_sigma, steps = (common.value(values, name) for name in names)
    arguments["num_samples"] = 5000 if given is None else given
    if is_diffusion(model.config):
        require(
            second_sigma is None,
            f"--checkpoint={checkpoint} is a diffusion model, which has no two-step samples; leave "
            "out --second_sigma, or give --steps.",
        )
        arguments["diffusion_sigmas"] = grid(model.config, steps)
    require(
        steps is None or is_diffusion(model.config),
        f"--steps={steps} with --protocol=held-out is of diffusion models, and --checkpoint="
        f"{checkpoint} is none; leave it out, or use --protocol=train-set.",
    )
    if second_sigma is not None:
        arguments["second_sigma"] = second_sigma
    sampler = Sampler(
        build_draw(model.config),
        model.mesh,
        **sampler_arguments(model.config),
        batch_size=common.value(values, "batch_size"),
    )
    evaluator = Evaluator(model.dataset, sampler, **arguments)
    say(f"scoring step {model.step:,} of {checkpoint}: train a classifier, compare")
    evaluator.write_scores(model.out, model.params, model.step, second_sigma=second_sigma)


def main() -> None:
    """Entry point of the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
