"""Measure the seconds to trace, lower and compile the full-size training step, scanned or not.

  python benchmarks/compile_time.py configs/cifar10_ict.py configs/cifar10_ict_deep.py

No parameters are allocated. Compilation is for the devices that JAX finds.
"""

import argparse
import importlib.util
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from ict_jax.cli.common import let_import
from ict_jax.config.check import resolve
from ict_jax.config.training import Config, build_init_state, build_train_step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs", nargs="+", type=Path, help="config files with their image shape and sigma_data"
    )
    parser.add_argument("--batch_size", default=8, type=int)
    parser.add_argument("--lower_only", action="store_true", help="do not compile")
    arguments = parser.parse_args()
    print("config                scanned   trace s   lower s  compile s")
    for path in arguments.configs:
        for scan in (False, True):
            seconds = measure(load(path), scan, arguments.batch_size, not arguments.lower_only)
            print(f"{path.stem:22}{scan!s:7}", *(f"{s:9.1f}" for s in seconds), flush=True)


def load(path: Path) -> Config:
    """Load the config in a file."""
    let_import(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def measure(config: Config, scan: bool, batch_size: int, compiled: bool) -> list[float]:
    """Return the seconds to trace, to lower and, if `compiled`, to compile."""
    config.model.scan_blocks = scan
    config = resolve(config, None)
    state = jax.eval_shape(build_init_state(config))
    batch = {
        "image": jax.ShapeDtypeStruct((batch_size, *config.image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    }
    times = [time.perf_counter()]
    traced = jax.jit(build_train_step(config)).trace(state, batch)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    if compiled:
        lowered.compile()
        times.append(time.perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(times)]


if __name__ == "__main__":
    main()
