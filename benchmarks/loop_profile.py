"""Profile the training loop and count the calls in which its thread waits for the devices.

  python -m benchmarks.loop_profile

Trains the smoke form of the quick start for 500 steps with a report every 50, under JAX's profiler
with Python tracing, from the compiled step to the last one. Prints how often the thread of the loop
fetches from the devices, by calling function, and how long it takes to dispatch a step.
"""

import argparse
import collections
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax

from configs import digits
from ict_jax.run import loop

STEPS, REPORT_EVERY = 500, 50
FETCHES = re.compile(
    r"array\.py:\d+ (_value|__array__|__int__|__float__|item|tolist)$|device_get$|"
    r"block_until_ready$"
)
CALLERS = ("check_metrics", "flush", "save", "write_samples", "poll", "run_steps")


def main() -> None:
    """Print the counts."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        events = profile(Path(directory))
    steps = [event for event in events if re.fullmatch(r"\$stages\.py:\d+ __call__", event.name)]
    print(f"{STEPS} steps, {STEPS // REPORT_EVERY} reports; {len(events):,} events of its thread")
    for caller, count in fetches(events).items():
        print(f"fetches within {caller}: {count}")
    durations = sorted(event.duration_ns / 1e3 for event in steps)
    middle = durations[len(durations) // 2]
    print(f"dispatches of a step: {len(durations)}, median {middle:.0f} microseconds")


def profile(directory: Path) -> list[Any]:
    """Return the events of the thread that runs the loop, in order of time."""
    config = digits.get_config("smoke")
    config.total_steps = STEPS
    config.logging.update({"every_steps": REPORT_EVERY, "samples_every_steps": STEPS})
    config.checkpointing.every_steps = STEPS
    config.evaluation.at_end = False
    config.mesh.num_devices = 1
    compile_step = loop.compile_step

    def compile_and_trace(*arguments: Any) -> Any:
        compiled = compile_step(*arguments)
        jax.profiler.start_trace(str(directory / "trace"))
        return compiled

    with mock.patch.object(loop, "compile_step", compile_and_trace):
        loop.train(config, directory / "run")
    jax.profiler.stop_trace()
    (path,) = (directory / "trace").rglob("*.xplane.pb")
    lines = [
        line
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
    ]
    threads = [list(line.events) for line in lines]
    (events,) = [thread for thread in threads if any("check_metrics" in e.name for e in thread)]
    return sorted(events, key=lambda event: (event.start_ns, -event.duration_ns))


def fetches(events: list[Any]) -> dict[str, int]:
    """Count the fetches by caller, the innermost of `CALLERS`."""
    found: collections.Counter[str] = collections.Counter()
    for within, event in nested(events):
        if FETCHES.search(event.name) and not any(FETCHES.search(name) for name in within):
            names = [name.split()[-1] for name in within]
            found[next((n for n in reversed(names) if n in CALLERS), "the loop itself")] += 1
    return dict(found)


def nested(events: list[Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield each event with the names of the events around it."""
    stack: list[Any] = []
    for event in events:
        while stack and stack[-1].end_ns <= event.start_ns:
            stack.pop()
        yield [outer.name for outer in stack], event
        stack.append(event)


if __name__ == "__main__":
    main()
