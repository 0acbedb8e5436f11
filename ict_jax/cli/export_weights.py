"""Write the EMA parameters of a checkpoint for other projects.

  python -m ict_jax.cli.export_weights --checkpoint=runs/digits --out=digits.safetensors
  python -m ict_jax.cli.export_weights --checkpoint=runs/cd --format=diffusers --out=cd_diffusers

safetensors: one file with the config and the step in its header, for any network.
diffusers: a directory for ConsistencyModelPipeline.from_pretrained, for an ADM with
c_noise_multiplier=1000.

The same checkpoint gives the same bytes. --out may be in a bucket (gs://...).

exit codes: 0 done; 1 something is wrong with the input; 3 a weight is NaN or infinite; 74 the
output could not be written.
"""

import sys

from absl import flags

from ict_jax.cli import common


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    common.define_checkpoint(values)
    formats = ["safetensors", "diffusers"]
    flags.DEFINE_enum("format", formats[0], formats, "Format of the output.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "File ending in .safetensors, or directory.", flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    """Export as the flags say."""
    example = "--checkpoint=runs/digits --out=digits.safetensors"
    checkpoint = common.required(values, "checkpoint", example)
    out = common.required(values, "out", example)

    from ict_jax.checkpoints import interop, load_ema  # late: --help and mistakes answer at once
    from ict_jax.runtime.console import say

    writers = {"safetensors": interop.write_safetensors, "diffusers": interop.write_diffusers}
    loaded = load_ema(checkpoint, step=common.value(values, "step"), what="--checkpoint")
    written = writers[common.value(values, "format")](loaded, out)
    say(f"step {loaded.step:,} of {checkpoint}: {written}")


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
