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
# Short runs spend most of their time compiling. Unoptimised programs compile twice as fast, and
# those of a U-Net three times as fast again without XLA's fusion emitters.
FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# On small matrices several threads mostly wait for each other; a single one needs a tenth of the
# CPU time. Read by the libraries under NumPy, scikit-learn and PyTorch.
QUICK = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS, "OMP_NUM_THREADS": "1"}


class Job:
    """The processes of one command, by default a training run."""

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
        """Start the processes.

        Args:
          workdir: work directory of the run.
          extra: arguments of all processes.
          processes: number of processes.
          devices: virtual devices of each process.
          extra_of_last: arguments of the last process alone.
          logs: directory for their output; default: beside the work directory.
          command: module and arguments; default: the training of `TRAIN` in the work directory.
        """
        logs = workdir.parent if logs is None else logs
        environment = {**os.environ, **QUICK, "JAX_NUM_CPU_DEVICES": str(devices)}
        if command is not None:  # its programs run for longer than seconds
            del environment["XLA_FLAGS"]
        if processes > 1:
            environment["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{free_port()}"
            environment["JAX_NUM_PROCESSES"] = str(processes)
        if command is None:
            command = ("ict_jax.cli.train", *TRAIN, f"--workdir={workdir}")
        self.outputs = [logs / f"{workdir.name}.{index}.log" for index in range(processes)]
        self.processes = []
        for index, output in enumerate(self.outputs):
            arguments = [sys.executable, "-m", *command, *extra]
            if processes > 1:
                environment["JAX_PROCESS_ID"] = str(index)
            if index == processes - 1:
                arguments += extra_of_last
            with output.open("w") as file:
                self.processes.append(
                    subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=file, stderr=file)
                )

    def output(self, index: int = 0) -> str:
        """Return what a process has printed so far."""
        return self.outputs[index].read_text(errors="replace")

    def wait_for(self, text: str, secs: float = 120) -> bool:
        """Wait until the first process has printed a text; return false if the job ends before."""
        deadline = time.monotonic() + secs
        while text not in self.output():
            if any(process.poll() is not None for process in self.processes):
                return text in self.output()
            check(time.monotonic() < deadline, f"{text!r} was not printed in {secs} s", self)
            time.sleep(0.02)
        return True

    def wait(self, secs: float = 300) -> list[int]:
        """Return the exit codes, negative for signals."""
        deadline = time.monotonic() + secs
        try:
            return [p.wait(max(deadline - time.monotonic(), 0.1)) for p in self.processes]
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"the job did not end in {secs} s:\n{self.output()[-2000:]}"
            raise NotSurvived(message) from None

    def kill(self) -> None:
        """Kill the processes that are still running."""
        for process in self.processes:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class NotSurvived(AssertionError):
    """Raised when a fault costs more than it may."""


def check(condition: bool, message: str, job: Job | None = None) -> None:
    """Raise `NotSurvived` unless a condition holds, with the output of a job, which is killed."""
    if not condition:
        outputs = []
        if job is not None:
            outputs = [job.output(index)[-9000:] for index in range(len(job.outputs))]
            job.kill()
        raise NotSurvived("\n".join([message, *outputs]))


def saved_steps(workdir: Path) -> list[int]:
    """Return the steps of the complete checkpoints."""
    paths = (workdir / "checkpoints").glob("*")
    return sorted(int(path.name) for path in paths if path.name.isdecimal())


def fingerprint(workdir: Path, step: int = TOTAL_STEPS) -> dict:
    """Return the stored fingerprints of the state and the EMA parameters of a checkpoint."""
    text = (workdir / "checkpoints" / str(step) / "fingerprint/metadata").read_text()
    return {name: json.loads(text)[name] for name in ("state", "ema")}


def losses(workdir: Path) -> np.ndarray:
    """Return the logged losses in the order of steps; of a repeated step the last."""
    events = EventAccumulator(str(workdir))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("train/loss")}
    return np.array([found[step] for step in sorted(found)])


def finish(workdir: Path, *extra: str, **layout: Any) -> Job:
    """Run a job to its end."""
    job = Job(workdir, *extra, **layout)
    codes = job.wait()
    check(set(codes) == {0}, f"the job ended with {codes}", job)
    return job


def samples(workdir: Path) -> np.ndarray:
    """Draw sixteen images from a finished run."""
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
