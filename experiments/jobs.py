"""Real training jobs of one or two processes on this machine, for `faults.py` and the tests."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parent.parent
TOTAL_STEPS, SAVED_EVERY = 240, 10
TRAIN = [
    f"--config={ROOT / 'configs/digits.py'}:smoke",
    f"--config.total_steps={TOTAL_STEPS}",
    f"--config.checkpointing.every_steps={SAVED_EVERY}",
    "--config.checkpointing.keep_last=3",
    "--config.logging.every_steps=5",
    "--config.logging.samples_every_steps=100000",
    "--config.evaluation.at_end=False",
]
# Compiling takes most of the time of short runs. Unoptimised programs compile twice as fast, and
# those of a U-Net three times as fast again without XLA's emitters of fused loops.
FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# More threads for small matrices wait for each other: one has the same done with a tenth of the
# CPU time. NumPy's, scikit-learn's and PyTorch's libraries read it.
QUICK = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS, "OMP_NUM_THREADS": "1"}


class Job:
    """The processes of one run of a command, by default of a training."""

    def __init__(
        self,
        workdir: Path,
        *extra: str,
        processes: int = 1,
        devices: int = 1,
        extra_of_last: tuple[str, ...] = (),
        logs: Path | None = None,
        command: tuple[str, ...] | None = None,
    ):
        """Starts them.

        Args:
          workdir: of the run.
          extra: arguments of all.
          processes: how many.
          devices: virtual devices of each.
          extra_of_last: arguments of the last one alone.
          logs: directory for what they print; default: beside the work directory.
          command: module and arguments; default: the training of `TRAIN` in the work directory.
        """
        logs = workdir.parent if logs is None else logs
        address = f"127.0.0.1:{free_port()}"
        environment = {**os.environ, **QUICK, "JAX_NUM_CPU_DEVICES": str(devices)}
        if command is not None:  # its programs are not those of seconds
            del environment["XLA_FLAGS"]
        if command is None:
            command = ("ict_jax.cli.train", *TRAIN, f"--workdir={workdir}")
        self.outputs = [logs / f"{workdir.name}.{index}.log" for index in range(processes)]
        self.processes = []
        for index, output in enumerate(self.outputs):
            if processes > 1:
                environment["JAX_COORDINATOR_ADDRESS"] = address
                environment["JAX_NUM_PROCESSES"] = str(processes)
                environment["JAX_PROCESS_ID"] = str(index)
            with output.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            "-m",
                            *command,
                            *extra,
                            *(extra_of_last if index == processes - 1 else ()),
                        ],
                        cwd=ROOT,
                        env=environment,
                        stdout=file,
                        stderr=file,
                    )
                )

    def said(self, index: int = 0) -> str:
        """What a process has printed so far."""
        return self.outputs[index].read_text(errors="replace")

    def wait_for(self, text: str, secs: float = 120) -> bool:
        """Returns once the first process has printed a text, or false if the job has ended."""
        deadline = time.monotonic() + secs
        while text not in self.said():
            if any(process.poll() is not None for process in self.processes):
                return text in self.said()
            check(time.monotonic() < deadline, f"{text!r} was not said in {secs} s", self)
            time.sleep(0.02)
        return True

    def wait(self, secs: float = 300) -> list[int]:
        """The exit codes, negative for signals."""
        deadline = time.monotonic() + secs
        try:
            return [p.wait(max(deadline - time.monotonic(), 0.1)) for p in self.processes]
        except subprocess.TimeoutExpired:
            self.kill()
            raise Unsurvived(f"the job did not end in {secs} s:\n{self.said()[-2000:]}") from None

    def kill(self) -> None:
        """Kills whatever still runs."""
        for process in self.processes:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Unsurvived(AssertionError):
    """A fault cost more than it may."""


def check(holds: bool, sentence: str, job: Job | None = None) -> None:
    """Raises `Unsurvived` unless a condition holds."""
    if not holds:
        said = []
        if job is not None:
            said = [job.said(index)[-9000:] for index in range(len(job.outputs))]
            job.kill()
        raise Unsurvived("\n".join([sentence, *said]))


def saved_steps(workdir: Path) -> list[int]:
    """The steps of the whole checkpoints."""
    directory = workdir / "checkpoints"
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def fingerprint(workdir: Path, step: int = TOTAL_STEPS) -> dict:
    """The stored fingerprints of the state and the averaged parameters of a checkpoint."""
    text = (workdir / "checkpoints" / str(step) / "fingerprint/metadata").read_text()
    return {name: json.loads(text)[name] for name in ("state", "ema")}


def losses(workdir: Path) -> np.ndarray:
    """Every logged loss, in the order of steps; of repeated steps the last."""
    events = EventAccumulator(str(workdir))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("train/loss")}
    return np.array([found[step] for step in sorted(found)])


def finish(workdir: Path, *extra: str, **layout: Any) -> Job:
    """Runs a job to its end."""
    job = Job(workdir, *extra, **layout)
    codes = job.wait()
    check(set(codes) == {0}, f"the job ended with {codes}", job)
    return job


def samples(workdir: Path) -> np.ndarray:
    """Sixteen images of a finished run."""
    out = workdir.parent / f"{workdir.name}.samples"
    command = [sys.executable, "-m", "ict_jax.cli.sample", f"--checkpoint={workdir}"]
    subprocess.run(
        [*command, "--seeds=0-15", f"--out={out}"],
        cwd=ROOT,
        env={**os.environ, **QUICK},
        check=True,
        capture_output=True,
    )
    return np.load(out / "samples.npz")["images"]
