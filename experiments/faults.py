"""Breaks real training runs in every way that jobs break, and looks at what is left of them.

  python -m experiments.faults                    # the counts in docs/parallel.md
  python -m experiments.faults --only kill stop   # some of the faults
  python -m experiments.faults --few              # one to three of each

Each fault strikes processes started as a user starts them, at random moments, while they train a
small network on the embedded digits and save every few steps. The run is then started again by
the same command, and must end with the very parameters of an undisturbed run: the fingerprints of
the last checkpoints, two sums over all their bits, are compared. On another layout of devices,
where sums are rounded otherwise, losses and samples must agree to rounding.

A fault that is not survived ends the command with 1 and says which. `disk` and `disk_of_two` need
root, to make a small file system in memory; without, they are left out, and the output says so.
"""

import argparse
import contextlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.jobs import (
    QUICK,
    ROOT,
    SAVED_EVERY,
    TOTAL_STEPS,
    TRAIN,
    Job,
    Unsurvived,
    check,
    fingerprint,
    finish,
    losses,
    samples,
    saved_steps,
)

SAVED_AFTER_SIGTERM, NOT_SAVED, DIVERGED = 75, 74, 3
GRACE_SECS = 30
"""From SIGTERM to the end of the process: what SLURM gives by default; Kubernetes gives as much."""
PEER_SECS = 120
"""From the death of one process to the end of the others."""


class Trials:
    """The faults, each against an undisturbed run of the same layout."""

    def __init__(self, directory: Path, seed: int):
        """Prepares; undisturbed runs are made when they are needed."""
        self.directory = directory
        self.random = random.Random(seed)
        self._undisturbed: dict[int, tuple[Path, float]] = {}
        self._count = 0

    def workdir(self, name: str) -> Path:
        """A new work directory."""
        self._count += 1
        return self.directory / f"{name}_{self._count}"

    def undisturbed(self, processes: int = 1) -> tuple[Path, float]:
        """A finished run, and how long its training took from the compiled step on."""
        if processes not in self._undisturbed:
            workdir = self.workdir("undisturbed")
            job = Job(workdir, processes=processes)
            job.wait_for("compiled the training step")
            started = time.monotonic()
            check(set(job.wait()) == {0}, "the undisturbed run failed", job)
            self._undisturbed[processes] = workdir, time.monotonic() - started
        return self._undisturbed[processes]

    def equals_undisturbed(
        self, workdir: Path, processes: int = 1, *, all_logged: bool = True
    ) -> None:
        """Checks the last checkpoint of a finished run, bit for bit, and its logged losses."""
        expected, _ = self.undisturbed(processes)
        check(
            fingerprint(workdir) == fingerprint(expected),
            f"{workdir} ended with other parameters than {expected}",
        )
        same = not all_logged or np.array_equal(losses(workdir), losses(expected))
        check(same, f"{workdir} logged other losses than {expected}")

    def kill(self, count: int) -> str:
        """`kill -9` of the only process at random moments, saves included."""
        _, secs = self.undisturbed()
        workdir, half_written, ended, starting = self.workdir("kill"), 0, 0, 0
        for number in range(count):
            before = saved_steps(workdir)
            job = Job(workdir)
            if number % 5 == 4:  # one in five while it starts, restores and compiles
                time.sleep(self.random.uniform(0.5, 8))
                starting += 1
            elif job.wait_for("compiled the training step"):
                time.sleep(self.random.uniform(0, 0.5 * secs))
            job.kill()
            steps = saved_steps(workdir)
            half_written += any(
                "orbax-checkpoint-tmp" in p.name for p in (workdir / "checkpoints").glob("*")
            )
            check(not before or steps[-1] >= before[-1], f"{before} became {steps}", job)
            reported = re.findall(r"step +([\d,]+)/", job.said())
            reached = int(reported[-1].replace(",", "")) if reported else 0
            newest = steps[-1] if steps else 0
            # One save may be under way when the next is due.
            check(newest >= reached - 2 * SAVED_EVERY, f"at {reached} only {steps} are saved", job)
            if steps and steps[-1] == TOTAL_STEPS:
                finish(workdir)
                self.equals_undisturbed(workdir)
                workdir, ended = self.workdir("kill"), ended + 1
        finish(workdir)
        self.equals_undisturbed(workdir)
        return (
            f"{count} kills, {starting} of them while starting, {half_written} left a half-written "
            f"checkpoint; {ended + 1} runs ended bitwise equal"
        )

    def stop(self, count: int) -> str:
        """SIGTERM at random moments: saved in time, with its own exit code."""
        _, secs = self.undisturbed()
        workdir, longest, done, runs = self.workdir("stop"), 0.0, 0, 1
        while done < count:
            before = saved_steps(workdir)
            job = Job(workdir)
            job.wait_for("compiled the training step")
            time.sleep(self.random.uniform(0, 0.4 * secs))
            asked = time.monotonic()
            job.processes[0].terminate()
            (code,) = job.wait(GRACE_SECS)
            if "done in" in job.said():  # it had just finished
                self.equals_undisturbed(workdir)
                workdir, runs = self.workdir("stop"), runs + 1
                continue
            longest = max(longest, time.monotonic() - asked)
            check(code == SAVED_AFTER_SIGTERM, f"SIGTERM gave the exit code {code}", job)
            stopped = int(re.findall(r"stopped at step ([\d,]+)", job.said())[-1].replace(",", ""))
            steps = saved_steps(workdir)
            check(steps[-1] == stopped, f"stopped at {stopped}, saved {steps}", job)
            check(not before or stopped > before[-1], f"{before} became {steps}", job)
            done += 1
        finish(workdir)
        self.equals_undisturbed(workdir)
        return (
            f"{count} stops, saved and ended within {longest:.1f} s (limit {GRACE_SECS}) with exit "
            f"code {SAVED_AFTER_SIGTERM}; {runs} runs ended bitwise equal"
        )

    def stop_one_of_two(self, count: int) -> str:
        """SIGTERM to one of two processes: both stop at the same step, saved."""
        _, secs = self.undisturbed(2)
        workdir, first = self.workdir("stop_one_of_two"), self.random.randrange(2)
        for number in range(count):
            job = Job(workdir, processes=2)
            job.wait_for("compiled the training step")
            time.sleep(self.random.uniform(0, 0.5 * secs / count))
            job.processes[(first + number) % 2].terminate()
            codes = job.wait(GRACE_SECS)
            check(set(codes) == {SAVED_AFTER_SIGTERM}, f"SIGTERM gave the exit codes {codes}", job)
            stops = {re.findall(r"stopped at step ([\d,]+)", job.said(i))[-1] for i in (0, 1)}
            check(len(stops) == 1, f"the processes stopped at {stops}", job)
        finish(workdir, processes=2)
        self.equals_undisturbed(workdir, 2)
        return f"{count} stops, both processes at the same step; the run ended bitwise equal"

    def lose_peer(self, count: int) -> str:
        """`kill -9` of one of two processes: the other stops with the reason, the job resumes."""
        _, secs = self.undisturbed(2)
        workdir, longest, seen = self.workdir("lose_peer"), 0.0, set()
        for number in range(count):
            job = Job(workdir, processes=2)
            job.wait_for("compiled the training step")
            time.sleep(self.random.uniform(0.1, 0.5 * secs / count))
            lost, left = job.processes[1 - number % 2], job.processes[number % 2]
            died = time.monotonic()
            lost.kill()
            lost.wait()
            try:
                code = left.wait(PEER_SECS)
            except subprocess.TimeoutExpired:
                check(False, f"the other process still runs after {PEER_SECS} s", job)
            longest = max(longest, time.monotonic() - died)
            check(code not in (0, SAVED_AFTER_SIGTERM), f"the other ended with {code}", job)
            said = job.said(number % 2)
            told = [line for line in said.splitlines() if not line.startswith("[Gloo]")]
            reason = re.search(r"(?i)another (task|process) died|cannot go on", "\n".join(told))
            check(reason is not None, "the other did not say why", job)
            seen.add(code)
        finish(workdir, processes=2)
        self.equals_undisturbed(workdir, 2)
        return (
            f"{count} deaths, the other process ended within {longest:.0f} s (limit {PEER_SECS}) "
            f"with exit codes {sorted(seen)}; the run ended bitwise equal"
        )

    def layouts(self, count: int) -> str:
        """Stopped and resumed on other devices and processes; agrees to rounding."""
        layouts = [(1, 1, 1), (1, 4, 4), (2, 1, 1), (1, 2, 1), (2, 2, 2), (1, 4, 2), (1, 4, 1)]
        expected, secs = self.undisturbed()
        workdir = self.workdir("layouts")
        for number in range(count):
            processes, devices, fsdp = layouts[number % len(layouts)]
            job = Job(workdir, f"--config.mesh.fsdp={fsdp}", processes=processes, devices=devices)
            job.wait_for("compiled the training step")
            time.sleep(self.random.uniform(0, 0.3 * secs / count))
            job.processes[0].terminate()
            codes = set(job.wait(60))
            check(codes == {SAVED_AFTER_SIGTERM}, f"SIGTERM gave the exit codes {codes}", job)
        finish(workdir)
        difference = np.max(np.abs(losses(workdir) / losses(expected) - 1))
        check(difference < 1e-4, f"the losses differ by up to {difference:.1e}")
        pixels = np.abs(samples(workdir).astype(int) - samples(expected))
        check(
            pixels.max() <= 1 and (pixels == 0).mean() > 0.999, f"samples differ by {pixels.max()}"
        )
        return (
            f"{count} changes of layout (processes, devices of each, fsdp: {layouts[:count]}); "
            f"losses agree to {difference:.0e}, {(pixels == 0).mean():.2%} of the samples' values "
            "are equal"
        )

    def corrupt(self, count: int) -> str:
        """A bit is turned or the end cut off in a random file of the newest checkpoint."""
        noticed, harmless = 0, 0
        workdir = self.workdir("corrupt")
        for number in range(count):
            if not saved_steps(workdir) or saved_steps(workdir)[-1] > TOTAL_STEPS - 60:
                workdir = self.workdir("corrupt")
            job = Job(workdir)
            job.wait_for("compiled the training step")
            while len(saved_steps(workdir)) < 2:
                check(job.processes[0].poll() is None, "it ended early", job)
                time.sleep(0.05)
            job.processes[0].terminate()
            job.wait(GRACE_SECS)
            newest = saved_steps(workdir)[-1]
            files = [p for p in (workdir / "checkpoints" / str(newest)).rglob("*") if p.is_file()]
            files = [path for path in files if path.stat().st_size]
            # By size: a random byte of the checkpoint is most often in its arrays.
            path = self.random.choices(files, [p.stat().st_size for p in files])[0]
            content = bytearray(path.read_bytes())
            if number % 2:
                del content[self.random.randrange(len(content)) :]
            else:
                content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
            job = finish(workdir)
            if f"{newest}" in "".join(re.findall(r"WARNING: the checkpoint (\S+)", job.said())):
                noticed += 1
                check((workdir / f"damaged_checkpoints/{newest}").is_dir(), "it is not kept", job)
            else:
                harmless += 1
            self.equals_undisturbed(workdir)
        return (
            f"{count} checkpoints damaged: {noticed} named, set aside and the one before used, "
            f"{harmless} restored unharmed; every run ended bitwise equal"
        )

    def disk(self, count: int) -> str:
        """The disk is full: the run says so and stops, or goes on if the config says so."""
        if os.geteuid() != 0:
            return "left out: only root can make a small file system"
        for number in range(count):
            self._fill_disk(f"disk_{number}", go_on=bool(number % 2))
        return f"{count} full disks, said and survived; every run ended bitwise equal"

    def disk_of_two(self, count: int) -> str:
        """The disk that two processes share is full."""
        if os.geteuid() != 0:
            return "left out: only root can make a small file system"
        longest, first = 0.0, self.random.randrange(2)
        for number in range(count):
            go_on = bool((first + number) % 2)
            secs = self._fill_disk(f"two_{number}", go_on=go_on, processes=2)
            longest = max(longest, secs)
        return f"{count} full disks, said within {longest:.0f} s; every run ended bitwise equal"

    def _fill_disk(self, name: str, *, go_on: bool, processes: int = 1) -> float:
        """Seconds from the full disk to what is said of it."""
        with small_disk(self.directory / name, megabytes=16) as disk:
            workdir = disk / "run"
            policy = f"--config.checkpointing.stop_on_failed_save={go_on is False}"
            job = Job(workdir, policy, logs=self.directory, processes=processes)
            job.wait_for("compiled the training step")
            while not saved_steps(workdir):
                time.sleep(0.02)
            filling, full = disk / "filling", time.monotonic()
            with contextlib.suppress(OSError), filling.open("wb") as file:
                while True:
                    file.write(bytes(2**12))
                    file.flush()
            if go_on:
                check(job.wait_for("could not be saved", PEER_SECS), "it did not say so", job)
                secs = time.monotonic() - full
                filling.unlink()
                check(set(job.wait()) == {0}, "it did not go on", job)
            else:
                self._check_not_saved(job, workdir)
                secs = time.monotonic() - full
                filling.unlink()
                finish(workdir, logs=self.directory, processes=processes)
            self.equals_undisturbed(workdir, processes, all_logged=False)
        return secs

    def _check_not_saved(self, job: Job, workdir: Path) -> None:
        codes = job.wait(PEER_SECS)
        check(NOT_SAVED in codes and 0 not in codes, f"the exit codes are {codes}", job)
        said = "".join(job.said(index) for index in range(len(codes)))
        check("not saved: the checkpoint of step" in said, "it did not say why", job)
        check(bool(saved_steps(workdir)), "the good checkpoint is gone", job)

    def write_error_of_one(self, count: int) -> str:
        """One of two processes cannot write its part, which is larger than it may be."""
        longest, first = 0.0, self.random.randrange(2)
        for number in range(count):
            go_on, workdir = bool((first + number) % 2), self.workdir("write_error_of_one")
            policy = f"--config.checkpointing.stop_on_failed_save={go_on is False}"
            job = Job(workdir, policy, processes=2)
            job.wait_for("compiled the training step")
            while not saved_steps(workdir):
                time.sleep(0.02)
            pid, failing = job.processes[1].pid, time.monotonic()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
            if go_on:
                check(job.wait_for("could not be saved", PEER_SECS), "it did not say so", job)
                longest = max(longest, time.monotonic() - failing)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                check(set(job.wait()) == {0}, "it did not go on", job)
            else:
                self._check_not_saved(job, workdir)
                longest = max(longest, time.monotonic() - failing)
                finish(workdir, processes=2)
            self.equals_undisturbed(workdir, 2, all_logged=False)
        return f"{count} write errors, said within {longest:.0f} s; every run ended bitwise equal"

    def nan(self, count: int) -> str:
        """The optimizer's state becomes NaN at a random step: it stops, what is good is kept."""
        for _ in range(count):
            step, workdir = self.random.randrange(20, TOTAL_STEPS), self.workdir("nan")
            script = f"from experiments.faults import poison; poison({step}, {str(workdir)!r})"
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=ROOT,
                env={**os.environ, **QUICK},
                capture_output=True,
                text=True,
            )
            check(done.returncode == DIVERGED, f"it ended with {done.returncode}: {done.stderr}")
            newest = saved_steps(workdir)[-1]
            check(newest < step, f"step {newest} was saved, NaN came at {step}")
            check(
                f"checkpoints/{newest}" in done.stderr,
                f"it did not say what is good: {done.stderr}",
            )
        return f"{count} NaN: each run stopped and named its last good checkpoint"


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory."""
    path.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def poison(step: int, workdir: str) -> None:
    """Trains, with an optimizer state that becomes NaN at a step."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    from ict_jax.cli import train
    from ict_jax.config import training

    make = training.make_train_step

    def poisoned(*arguments, ema_decay, accumulation_steps, flip):
        train_step = make(
            *arguments, ema_decay=ema_decay, accumulation_steps=accumulation_steps, flip=flip
        )

        def step_and_poison(state, batch):
            bad = state.step == step - 1
            opt_state = jax.tree.map(
                lambda a: jnp.where(bad, jnp.nan, a) if a.ndim else a, state.opt_state
            )
            return train_step(dataclasses.replace(state, opt_state=opt_state), batch)

        return step_and_poison

    training.make_train_step = poisoned
    sys.argv = ["train", *TRAIN, f"--workdir={workdir}"]
    train.main()


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
    """Runs the trials and prints a line for each fault."""
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
                result = getattr(trials, name)(count)
            except Unsurvived as error:
                sys.exit(f"{name}: NOT SURVIVED: {error}")
            print(f"{name}: {result} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
