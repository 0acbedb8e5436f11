r"""Make a checkpoint from weights of another project; `sample` then draws from it.

  python -m ict_jax.cli.import_weights --config=configs/openai_cifar10.py --source=FILE \
      --out=runs/cd
  python -m ict_jax.cli.sample --checkpoint=runs/cd --out=samples

--source may be:
  a checkpoint of OpenAI's consistency_models_cifar10 (Flax msgpack), for its EMA parameters
  a .pt file of OpenAI's consistency_models
  a directory of diffusers' ConsistencyModelPipeline
  a .safetensors file of export_weights, which needs no --config
Nothing in a file is ever executed. Files of export_weights carry a fingerprint, which is verified;
in others, changed values may go unnoticed without --sha256.

exit codes: 0 done; 1 something is wrong with the input; 3 a weight is NaN or infinite; 74 the
checkpoint could not be written.
"""

import sys

from absl import flags

from ict_jax.cli import common


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    common.define_config(
        values,
        argv,
        "Config of the network: configs/openai_cifar10.py or configs/openai_imagenet64.py, with "
        "the suffix :edm for the diffusion models. Override values as in "
        "--config.model.channels=64.",
    )
    for name, text in {
        "source": "File or directory of the weights.",
        "sha256": "Expected SHA-256 of the file of the weights, from its publisher or sha256sum.",
        "out": "New work directory for the checkpoint.",
    }.items():
        flags.DEFINE_string(name, None, text, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Import as the flags say."""
    example = "--source=cd-lpips --config=configs/openai_cifar10.py --out=runs/cd"
    source = common.required(values, "source", example)
    out = common.required(values, "out", example)

    import jax  # late: --help and mistakes answer at once

    from ict_jax.checkpoints import interop
    from ict_jax.checkpoints.weights import write_ema
    from ict_jax.config.network import image_shape
    from ict_jax.config.sampling import is_diffusion
    from ict_jax.runtime.console import say
    from ict_jax.runtime.storage import to_path

    loaded = interop.read_weights(
        source, common.value(values, "config"), sha256=common.value(values, "sha256")
    )
    written = write_ema(to_path(out), *loaded)
    size = sum(leaf.size for leaf in jax.tree.leaves(loaded.params))
    kind = "diffusion model" if is_diffusion(loaded.config) else "consistency model"
    say(f"{size:,} parameters of a {kind} {image_shape(loaded.config)}: {written}")


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
