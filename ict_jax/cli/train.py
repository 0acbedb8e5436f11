"""Train a consistency model.

  python -m ict_jax.cli.train --config=configs/digits.py --workdir=runs/digits
  python -m ict_jax.cli.train --config=configs/cifar10_ict.py --dry_run

To resume, run the same command again. Any value of the config can be overridden:
--config.total_steps=20000. The work directory gets config.json, environment.json, checkpoints/,
samples/, TensorBoard events and, where the config asks for them, scores.json and sample grids.

exit codes: 0 finished; 1 something is wrong with the input; 3 a loss, gradient or parameter
became NaN or infinite; 71 one process of several failed, lost another, or waited for one in vain;
74 a checkpoint could not be written; 75 stopped by SIGTERM or Ctrl-C, state saved, run the same
command again; 130 Ctrl-C where nothing could be saved, or a second time.
"""

import sys

from absl import flags

from ict_jax.cli import common


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    common.define_config(
        values,
        argv,
        "Config file, such as configs/digits.py, or configs/digits.py:smoke for a run of seconds. "
        "Override values as in --config.optimizer.learning_rate=2e-4.",
    )
    for name, text in {
        "workdir": "Directory of this run, created if needed.",
        "init_from": "Checkpoint of another run, from whose EMA parameters a new run starts.",
    }.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Check the config and print it resolved, with parameters, stages and FLOPs, without "
        "training. Needs no data if the config states image_shape and sigma_data.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> int:
    """Train as the flags say."""
    example = "--config=configs/digits.py --workdir=runs/digits"
    config = common.required(values, "config", example)
    dry = common.value(values, "dry_run")
    workdir = None if dry else common.required(values, "workdir", example)

    # Late: --help and mistakes answer at once.
    from ict_jax.config.sections import override

    override(config, init_from=common.value(values, "init_from"))
    if workdir is None:
        from ict_jax.run.preflight.dry_run import dry_run

        dry_run(config)
        return 0

    from ict_jax.run import loop
    from ict_jax.runtime import processes
    from ict_jax.runtime.preemption import Interrupted
    from ict_jax.runtime.storage import enable_compilation_cache

    processes.initialize()
    enable_compilation_cache()
    try:
        with processes.exit_on_error():
            loop.train(config, workdir)
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return common.EXIT_INTERRUPTED
    return 0


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
