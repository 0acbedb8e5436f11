"""Draw images from a checkpoint, which contains its config.

  python -m ict_jax.cli.sample --checkpoint=runs/digits --seeds=0-63 --out=samples
  python -m ict_jax.cli.sample --checkpoint=runs/digits --seeds=0-63 --sigmas=80,0.8 --out=samples

The results in --out are grid.png (up to 1,024 images) and samples.npz: images uint8 [n, h, w, c],
seeds, sigmas, and the checkpoint's step. A seed gives the same image in any batch.
"""

import sys

from absl import flags

from ict_jax.cli import common

GRID_LIMIT = 1024


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    common.define_checkpoint(values)
    flags.DEFINE_string("seeds", "0-63", "First and last seed.", flag_values=values)
    sigmas = (
        "Descending noise levels, one network evaluation each (default: the model's sigma_max "
        "alone)."
    )
    steps = (
        "Instead of --sigmas: number of levels of the Karras grid (default for diffusion models: "
        "40, with two network evaluations each)."
    )
    labels = (
        "Classes of a class-conditional model, one for all or one per seed, as in 3 or 0,1,2 "
        "(default: the seed modulo the number of classes)."
    )
    flags.DEFINE_string("sigmas", None, sigmas, flag_values=values)
    flags.DEFINE_integer("steps", None, steps, flag_values=values)
    flags.DEFINE_string("labels", None, labels, flag_values=values)
    flags.DEFINE_string("out", None, "Directory for the results.", flag_values=values)
    flags.DEFINE_integer("batch_size", 256, "Images drawn at once.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Draw the samples and write them."""
    example = "--checkpoint=runs/digits --out=samples"
    checkpoint = common.required(values, "checkpoint", example)
    out = common.required(values, "out", example)
    seeds = common.parse_seeds(common.value(values, "seeds"))
    sigmas = common.value(values, "sigmas")
    sigmas = None if sigmas is None else common.parse_sigmas(sigmas)
    labels = common.value(values, "labels") or "even"

    import numpy as np  # late: --help and mistakes answer at once

    from ict_jax.evaluation.checkpoint import Levels, open_model, parse_labels
    from ict_jax.evaluation.features import encode_npz
    from ict_jax.evaluation.grids import image_grid, save_png
    from ict_jax.runtime import processes
    from ict_jax.runtime.console import progress_reporter, say
    from ict_jax.runtime.storage import to_path, writable_directory, write_atomically

    levels = Levels(sigmas=sigmas, steps=common.value(values, "steps"))
    common.start()
    model = open_model(checkpoint, step=common.value(values, "step"))
    sigmas, classes = levels.single_schedule(model.config), parse_labels(labels, seeds, model)
    sampler = model.sampler(min(common.value(values, "batch_size"), len(seeds)))
    with processes.all_or_none():
        directory = writable_directory(to_path(out), "--out")
    say(f"step {model.step:,} of {checkpoint}: {len(seeds):,} images at sigmas {list(sigmas)}")
    on_progress, done, parts = progress_reporter("samples"), 0, []
    for images in sampler.batches(model.params, seeds, sigmas, classes):
        parts.append(images)
        done += len(images)
        on_progress(done, len(seeds))
    if not processes.is_main():
        return
    images = np.concatenate(parts)
    arrays = {"images": images, "seeds": np.asarray(seeds), "sigmas": np.asarray(sigmas)}
    save_png(directory / "grid.png", image_grid(images[:GRID_LIMIT]))
    write_atomically(directory / "samples.npz", encode_npz(arrays | {"step": model.step}))
    say(f"written: {directory / 'grid.png'}, {directory / 'samples.npz'}")


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
