"""Estimate before a run whether it fits on devices, how long it takes and what it costs.

  python -m ict_jax.cli.preflight --config=configs/cifar10_ict.py --topology=v5e-8
  python -m ict_jax.cli.preflight --config=configs/imagenet64_ict.py --topology=v5e-256 --json

Compiles the training step for the local devices, or for a slice or node that need not be present.
Needs no accelerator, and no data if the config states image_shape and sigma_data. TPUs need libtpu
(the extra tpu), GPUs the package jax-cuda13-plugin.

All times are estimates, from the FLOPs of a step and the peak of the chips.

exit codes: 0 it fits; 1 something is wrong with the input; 4 it does not fit.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from absl import flags

from ict_jax.cli import common
from ict_jax.runtime.console import format_secs

REPORT_EVERY_SECS = 20


def define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define the flags of this command."""
    common.define_config(values, argv, "Config file, as for ict_jax.cli.train.")
    flags.DEFINE_string(
        "topology",
        None,
        "Slice or GPUs: v4-8, v5e-16, v5p-64, v6e-256, a100-8, h100-16; or local.",
        flag_values=values,
    )
    flags.DEFINE_integer("num_slices", 1, "TPU slices, connected by a network.", flag_values=values)
    flags.DEFINE_string(
        "level",
        "quick",
        "quick: minutes, overstates the memory by about a tenth; default: compiled as for a run, "
        "up to ten times as long.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "price_per_chip_hour", None, "Price in any currency, for the cost.", flag_values=values
    )
    flags.DEFINE_bool("json", False, "Print JSON alone.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Compile and report as the flags say."""
    example = "--config=configs/cifar10_ict.py --topology=v5e-8"
    config = common.required(values, "config", example)
    name = common.required(values, "topology", example)
    if name != "local":
        _compile_without_devices()

    # Late: --help and mistakes answer at once, and the environment comes first.
    import json

    from ict_jax.config.check import check_run
    from ict_jax.run.preflight.compile import preflight
    from ict_jax.run.preflight.text import as_json, as_text, refusal
    from ict_jax.run.preflight.topology import find_topology
    from ict_jax.runtime import console

    only_json = common.value(values, "json")
    if only_json:
        console.silence()  # nothing else on stdout
    topology = find_topology(name, common.value(values, "num_slices"))
    config, mesh, _ = check_run(config, topology.devices)
    options = ("num_slices", "level", "price_per_chip_hour")
    given = {option: common.value(values, option) for option in options}
    report = preflight(config, mesh, topology, progress=_progress, **given)
    print(json.dumps(as_json(report), indent=2, allow_nan=False) if only_json else as_text(report))
    if report.fits is False:
        sys.stderr.write(f"does not fit: {refusal(report)}\n")
        return common.EXIT_DOES_NOT_FIT
    return 0


def _compile_without_devices() -> None:
    """Set up the compilers for TPUs and GPUs to work without devices, beside other processes."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    for name, value in {
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LOG_DIR": "disabled",
    }.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    """Print to stderr what is being done, and the time it has taken so far."""
    started, done = time.monotonic(), threading.Event()

    def report() -> None:
        while not done.wait(REPORT_EVERY_SECS):
            secs = time.monotonic() - started
            sys.stderr.write(f"{what}: {format_secs(secs)} so far\n")

    sys.stderr.write(f"{what}\n")
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def main() -> None:
    """Run the command."""
    sys.exit(common.run(run, define_flags, __doc__ or ""))


if __name__ == "__main__":
    main()
