"""Trials of `faults.py`: jobs that a fault strikes, compared with undisturbed runs."""

import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.jobs import Job, check, fingerprint, finish, losses, saved_steps

SAVED_AFTER_SIGTERM, NOT_SAVED, DIVERGED = 75, 74, 3
GRACE_SECS = 30
"""Limit from SIGTERM to the end of the process: the default of SLURM and of Kubernetes."""
PEER_SECS = 120
"""Limit from the death of one process to the end of the others."""


class Trials:
    """Jobs to strike, each compared with an undisturbed run of the same layout."""

    def __init__(self, directory: Path, seed: int):
        """Prepare; undisturbed runs are made when they are needed."""
        self.directory = directory
        self.random = random.Random(seed)
        self._undisturbed: dict[int, tuple[Path, float]] = {}
        self._count = 0

    def workdir(self, name: str) -> Path:
        """Return a new work directory."""
        self._count += 1
        return self.directory / f"{name}_{self._count}"

    def start(self, workdir: Path, *extra: str, share: float = 0.0, **layout: Any) -> Job:
        """Start a job and let it train for a random time.

        Args:
          workdir: work directory.
          extra: arguments of the command.
          share: most of the time, as a share of an undisturbed run's.
          layout: further arguments of `Job`.
        """
        secs = self.undisturbed(layout.get("processes", 1))[1] if share else 0.0
        job = Job(workdir, *extra, **layout)
        if job.wait_for("compiled the training step"):
            time.sleep(self.random.uniform(0, share * secs))
        return job

    def undisturbed(self, processes: int = 1) -> tuple[Path, float]:
        """Return a finished run, and how long it trained after compiling."""
        if processes not in self._undisturbed:
            workdir = self.workdir("undisturbed")
            job = self.start(workdir, processes=processes)
            started = time.monotonic()
            check(set(job.wait()) == {0}, "the undisturbed run failed", job)
            self._undisturbed[processes] = workdir, time.monotonic() - started
        return self._undisturbed[processes]

    def check_unharmed(self, workdir: Path, processes: int = 1, *, all_logged: bool = True) -> None:
        """Compare a finished run's last checkpoint, bit for bit, and its logged losses."""
        expected, _ = self.undisturbed(processes)
        check(
            fingerprint(workdir) == fingerprint(expected),
            f"{workdir} ended with other parameters than {expected}",
        )
        same = not all_logged or np.array_equal(losses(workdir), losses(expected))
        check(same, f"{workdir} logged other losses than {expected}")

    def finish_unharmed(self, workdir: Path, processes: int = 1) -> Job:
        """Run a job to its end and check what it leaves."""
        job = finish(workdir, processes=processes)
        self.check_unharmed(workdir, processes)
        return job


def steps_in(pattern: str, output: str) -> list[int]:
    """Return the steps that a pattern captures in the output of a job."""
    return [int(step.replace(",", "")) for step in re.findall(pattern, output)]


def wait_for_saves(job: Job, workdir: Path, count: int) -> None:
    """Wait until a job has saved so many checkpoints."""
    while len(saved_steps(workdir)) < count:
        check(job.processes[0].poll() is None, "it ended early", job)
        time.sleep(0.02)
