"""The faults of `faults.py` that strike disks and files."""

import contextlib
import os
import random
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.jobs import TOTAL_STEPS, Job, check, finish, saved_steps
from experiments.trials import GRACE_SECS, NOT_SAVED, PEER_SECS, Trials, wait_for_saves

NO_ROOT = "left out: only root can mount a small file system"


def corrupt(trials: Trials, count: int) -> str:
    """Flip a bit in a random file of the newest checkpoint, or cut off its end."""
    noticed, workdir = 0, trials.workdir("corrupt")
    for number in range(count):
        if not saved_steps(workdir) or saved_steps(workdir)[-1] > TOTAL_STEPS - 60:
            workdir = trials.workdir("corrupt")
        job = trials.start(workdir)
        wait_for_saves(job, workdir, 2)
        job.processes[0].terminate()
        job.wait(GRACE_SECS)
        newest = saved_steps(workdir)[-1]
        _damage(workdir / "checkpoints" / str(newest), trials.random, cut=bool(number % 2))
        job = trials.finish_unharmed(workdir)
        if f"{newest}" in "".join(re.findall(r"WARNING: the checkpoint (\S+)", job.output())):
            noticed += 1
            check((workdir / f"damaged_checkpoints/{newest}").is_dir(), "it is not kept", job)
    return (
        f"{count} checkpoints damaged: {noticed} named, set aside and the one before used, "
        f"{count - noticed} restored unharmed; every run ended bitwise equal"
    )


def disk(trials: Trials, count: int) -> str:
    """Fill the disk: the run says so and stops, or goes on if the config says so."""
    if os.geteuid() != 0:
        return NO_ROOT
    for number in range(count):
        _fill_disk(trials, f"disk_{number}", go_on=bool(number % 2))
    return f"{count} full disks, said and survived; every run ended bitwise equal"


def disk_of_two(trials: Trials, count: int) -> str:
    """Fill the disk that two processes share."""
    if os.geteuid() != 0:
        return NO_ROOT
    first = trials.random.randrange(2)
    longest = max(
        _fill_disk(trials, f"two_{number}", go_on=bool((first + number) % 2), processes=2)
        for number in range(count)
    )
    return f"{count} full disks, said within {longest:.0f} s; every run ended bitwise equal"


def write_error_of_one(trials: Trials, count: int) -> str:
    """Keep one of two processes from writing its part, which is larger than it may be."""
    first = trials.random.randrange(2)
    longest = max(
        _fail_saves(
            trials,
            trials.workdir("write_error_of_one"),
            lambda job: _limited_file_size(job.processes[1].pid),
            go_on=bool((first + number) % 2),
            processes=2,
        )
        for number in range(count)
    )
    return f"{count} write errors, said within {longest:.0f} s; every run ended bitwise equal"


def _fill_disk(trials: Trials, name: str, *, go_on: bool, processes: int = 1) -> float:
    with _small_disk(trials.directory / name, megabytes=16) as disk:
        layout = {"logs": trials.directory, "processes": processes}
        return _fail_saves(trials, disk / "run", lambda _: _full(disk), go_on=go_on, **layout)


def _fail_saves(
    trials: Trials,
    workdir: Path,
    fault: Callable[[Job], contextlib.AbstractContextManager[None]],
    *,
    go_on: bool,
    **layout: Any,
) -> float:
    """Train until a fault makes a save fail; return the seconds until the run says so."""
    policy = f"--config.checkpointing.stop_on_failed_save={go_on is False}"
    job = trials.start(workdir, policy, **layout)
    wait_for_saves(job, workdir, 1)
    began = time.monotonic()
    with fault(job):
        if go_on:
            check(job.wait_for("could not be saved", PEER_SECS), "it did not say so", job)
        else:
            codes = job.wait(PEER_SECS)
            check(NOT_SAVED in codes and 0 not in codes, f"the exit codes are {codes}", job)
            output = "".join(job.output(index) for index in range(len(codes)))
            check("not saved: the checkpoint of step" in output, "it did not say why", job)
            check(bool(saved_steps(workdir)), "the good checkpoint is gone", job)
        secs = time.monotonic() - began
    if go_on:
        check(set(job.wait()) == {0}, "it did not go on", job)
    else:
        finish(workdir, **layout)
    trials.check_unharmed(workdir, layout["processes"], all_logged=False)
    return secs


@contextlib.contextmanager
def _small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory."""
    path.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@contextlib.contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Fill a disk up, and make room afterwards."""
    filling = disk / "filling"
    with contextlib.suppress(OSError), filling.open("wb") as file:
        while True:
            file.write(bytes(2**12))
            file.flush()
    yield
    filling.unlink()


@contextlib.contextmanager
def _limited_file_size(pid: int) -> Iterator[None]:
    """Keep a process from writing files larger than 60 kB."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    yield
    with contextlib.suppress(ProcessLookupError):  # it may have ended
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )


def _damage(directory: Path, rng: random.Random, *, cut: bool) -> None:
    """Flip a bit in a random file of a directory, or cut off its end."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size]
    # By size: a random byte of a checkpoint is most often in its arrays.
    path = rng.choices(files, [path.stat().st_size for path in files])[0]
    content = bytearray(path.read_bytes())
    if cut:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
