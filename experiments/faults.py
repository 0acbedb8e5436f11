"""Break real training runs in every way that jobs break, and check what is left of them.

  python -m experiments.faults                    # the counts in docs/parallel.md
  python -m experiments.faults --only kill stop   # some of the faults
  python -m experiments.faults --few              # one to three of each

Each fault strikes processes started as a user starts them, at random moments, while they train a
small network on the embedded digits and save every few steps. The run is then started again by
the same command, and must end with exactly the parameters of an undisturbed run: the fingerprints
of the last checkpoints, two sums over all their bits, are compared. On another layout of devices,
where sums are rounded differently, losses and samples must agree to rounding.

A fault that is not survived ends the command with 1 and its name. `disk` and `disk_of_two` need
root, to mount a small file system; without it they are left out, and the output says so.
"""

import argparse
import dataclasses
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.jobs import (
    QUICK,
    ROOT,
    SAVED_EVERY,
    TOTAL_STEPS,
    TRAIN,
    Job,
    NotSurvived,
    check,
    finish,
    losses,
    samples,
    saved_steps,
)
from experiments.storage_faults import corrupt, disk, disk_of_two, write_error_of_one
from experiments.trials import (
    DIVERGED,
    GRACE_SECS,
    PEER_SECS,
    SAVED_AFTER_SIGTERM,
    Trials,
    steps_in,
)


def kill(trials: Trials, count: int) -> str:
    """Kill the only process by `kill -9` at random moments, saves included."""
    workdir, half_written, ended, starting = trials.workdir("kill"), 0, 0, 0
    trials.undisturbed()
    for number in range(count):
        before = saved_steps(workdir)
        if number % 5 == 4:  # one in five while it starts, restores and compiles
            job = Job(workdir)
            time.sleep(trials.random.uniform(0.5, 8))
            starting += 1
        else:
            job = trials.start(workdir, share=0.5)
        job.kill()
        steps = saved_steps(workdir)
        half_written += any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))
        check(not before or steps[-1] >= before[-1], f"{before} became {steps}", job)
        reached = max(steps_in(r"step +([\d,]+)/", job.output()), default=0)
        newest = steps[-1] if steps else 0
        # One save may be in progress when the next is due.
        check(newest >= reached - 2 * SAVED_EVERY, f"at {reached} only {steps} are saved", job)
        if newest == TOTAL_STEPS:
            trials.finish_unharmed(workdir)
            workdir, ended = trials.workdir("kill"), ended + 1
    trials.finish_unharmed(workdir)
    return (
        f"{count} kills, {starting} of them while starting, {half_written} left a half-written "
        f"checkpoint; {ended + 1} runs ended bitwise equal"
    )


def stop(trials: Trials, count: int) -> str:
    """Send SIGTERM at random moments: saved in time, with an exit code of its own."""
    workdir, longest, done, runs = trials.workdir("stop"), 0.0, 0, 1
    while done < count:
        before = saved_steps(workdir)
        job = trials.start(workdir, share=0.4)
        asked = time.monotonic()
        job.processes[0].terminate()
        (code,) = job.wait(GRACE_SECS)
        if "done in" in job.output():  # it had just finished
            trials.check_unharmed(workdir)
            workdir, runs = trials.workdir("stop"), runs + 1
            continue
        longest = max(longest, time.monotonic() - asked)
        check(code == SAVED_AFTER_SIGTERM, f"SIGTERM gave the exit code {code}", job)
        stopped = steps_in(r"stopped at step ([\d,]+)", job.output())[-1]
        steps = saved_steps(workdir)
        check(steps[-1] == stopped, f"stopped at {stopped}, saved {steps}", job)
        check(not before or stopped > before[-1], f"{before} became {steps}", job)
        done += 1
    trials.finish_unharmed(workdir)
    return (
        f"{count} stops, saved and ended within {longest:.1f} s (limit {GRACE_SECS}) with exit "
        f"code {SAVED_AFTER_SIGTERM}; {runs} runs ended bitwise equal"
    )


def stop_one_of_two(trials: Trials, count: int) -> str:
    """Send SIGTERM to one of two processes: both stop at the same step, saved."""
    workdir, first = trials.workdir("stop_one_of_two"), trials.random.randrange(2)
    for number in range(count):
        job = trials.start(workdir, share=0.5 / count, processes=2)
        job.processes[(first + number) % 2].terminate()
        codes = job.wait(GRACE_SECS)
        check(set(codes) == {SAVED_AFTER_SIGTERM}, f"SIGTERM gave the exit codes {codes}", job)
        stops = {steps_in(r"stopped at step ([\d,]+)", job.output(i))[-1] for i in (0, 1)}
        check(len(stops) == 1, f"the processes stopped at {stops}", job)
    trials.finish_unharmed(workdir, 2)
    return f"{count} stops, both processes at the same step; the run ended bitwise equal"


def lose_peer(trials: Trials, count: int) -> str:
    """Kill one of two processes by `kill -9`: the other says why it stops, the job resumes."""
    workdir, longest, codes = trials.workdir("lose_peer"), 0.0, set()
    for number in range(count):
        job = trials.start(workdir, share=0.5 / count, processes=2)
        victim, survivor = job.processes[1 - number % 2], job.processes[number % 2]
        died = time.monotonic()
        victim.kill()
        victim.wait()
        try:
            code = survivor.wait(PEER_SECS)
        except subprocess.TimeoutExpired:
            check(False, f"the other process still runs after {PEER_SECS} s", job)
        longest = max(longest, time.monotonic() - died)
        check(code not in (0, SAVED_AFTER_SIGTERM), f"the other ended with {code}", job)
        lines = job.output(number % 2).splitlines()
        own = "\n".join(line for line in lines if not line.startswith("[Gloo]"))
        reason = re.search(r"(?i)another (task|process) died|cannot go on", own)
        check(reason is not None, "the other did not say why", job)
        codes.add(code)
    trials.finish_unharmed(workdir, 2)
    return (
        f"{count} deaths, the other process ended within {longest:.0f} s (limit {PEER_SECS}) "
        f"with exit codes {sorted(codes)}; the run ended bitwise equal"
    )


def layouts(trials: Trials, count: int) -> str:
    """Stop, and resume on other devices and processes: agrees to rounding."""
    layouts = [(1, 1, 1), (1, 4, 4), (2, 1, 1), (1, 2, 1), (2, 2, 2), (1, 4, 2), (1, 4, 1)]
    expected, secs = trials.undisturbed()
    workdir = trials.workdir("layouts")
    for number in range(count):
        processes, devices, fsdp = layouts[number % len(layouts)]
        mesh = f"--config.mesh.fsdp={fsdp}"
        job = trials.start(workdir, mesh, processes=processes, devices=devices)
        time.sleep(trials.random.uniform(0, 0.3 * secs / count))
        job.processes[0].terminate()
        codes = set(job.wait(60))
        check(codes == {SAVED_AFTER_SIGTERM}, f"SIGTERM gave the exit codes {codes}", job)
    finish(workdir)
    difference = np.max(np.abs(losses(workdir) / losses(expected) - 1))
    check(difference < 1e-4, f"the losses differ by up to {difference:.1e}")
    pixels = np.abs(samples(workdir).astype(int) - samples(expected))
    equal = (pixels == 0).mean()
    check(pixels.max() <= 1 and equal > 0.999, f"samples differ by {pixels.max()}")
    return (
        f"{count} changes of layout (processes, devices of each, fsdp: {layouts[:count]}); "
        f"losses agree to {difference:.0e}, {equal:.2%} of the samples' values are equal"
    )


def nan(trials: Trials, count: int) -> str:
    """Make the optimizer's state NaN at a random step: it stops, good checkpoints stay."""
    for _ in range(count):
        step, workdir = trials.random.randrange(20, TOTAL_STEPS), trials.workdir("nan")
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from experiments.faults import train_with_nan;"
                f"train_with_nan({step}, {str(workdir)!r})",
            ],
            cwd=ROOT,
            env={**os.environ, **QUICK},
            capture_output=True,
            text=True,
        )
        error = done.stderr
        check(done.returncode == DIVERGED, f"it ended with {done.returncode}: {error}")
        newest = saved_steps(workdir)[-1]
        check(newest < step, f"step {newest} was saved, NaN came at {step}")
        check(f"checkpoints/{newest}" in error, f"it did not say what is good: {error}")
    return f"{count} NaN: each run stopped and named its last good checkpoint"


def train_with_nan(step: int, workdir: str) -> None:
    """Train with an optimizer state that becomes NaN at a step."""
    import jax
    import jax.numpy as jnp

    from ict_jax.cli import train
    from ict_jax.config import training

    make = training.make_train_step

    @functools.wraps(make)  # the config is checked against its signature
    def make_faulty(*arguments, **options):
        train_step = make(*arguments, **options)

        def faulty_step(state, batch):
            bad = state.step == step - 1
            opt_state = jax.tree.map(
                lambda a: jnp.where(bad, jnp.nan, a) if a.ndim else a, state.opt_state
            )
            return train_step(dataclasses.replace(state, opt_state=opt_state), batch)

        return faulty_step

    training.make_train_step = make_faulty
    sys.argv = ["train", *TRAIN, f"--workdir={workdir}"]
    train.main()


_ALL = (kill, stop, stop_one_of_two, lose_peer, layouts)
_ALL += (disk, disk_of_two, write_error_of_one, corrupt, nan)
FAULTS = {fault.__name__: fault for fault in _ALL}
COUNTS = {
    "kill": 25,
    "stop": 10,
    "stop_one_of_two": 4,
    "lose_peer": 4,
    "layouts": 7,
    "disk": 4,
    "disk_of_two": 2,
    "write_error_of_one": 4,
    "corrupt": 20,
    "nan": 3,
}
FEW = {"stop_one_of_two": 1, "disk_of_two": 1, "write_error_of_one": 1}


def main() -> None:
    """Run the trials and print a line for each fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    parser.add_argument("--few", action="store_true", help="one to three of each")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults_") as directory:
        trials = Trials(Path(directory), arguments.seed)
        for name in arguments.only:
            count = FEW.get(name, 2) if arguments.few else COUNTS[name]
            started = time.monotonic()
            try:
                result = FAULTS[name](trials, count)
            except NotSurvived as error:
                sys.exit(f"{name}: NOT SURVIVED: {error}")
            print(f"{name}: {result} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
