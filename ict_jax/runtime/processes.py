"""Joining and coordinating the processes of a job, which a cluster's launcher starts."""

import contextlib
import os
import secrets
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime import console
from ict_jax.runtime.launchers import PEER_TIMEOUT, job_arguments, peer_timeout
from ict_jax.runtime.storage import io_errors

HEARTBEAT_TIMEOUT_SECS = 60  # after which a silent process counts as dead, and the others stop
SHUTDOWN_TIMEOUT_SECS = 20  # for which a failed process waits for the others to end with it
EXIT_BARRIER_SECS = 10  # for which processes that exit at once wait for each other
VISIBLE_SECS = 20  # after which all processes see a file written to a shared disk

EXIT_JOB_BROKEN = 71  # EX_OSERR
"""Exit code of a process whose job is not complete, or no longer."""


def initialize() -> None:
    """Join the job that this process was started in; do nothing for a single process.

    To be called before any other JAX function. From then on only process 0 prints progress.
    JAX's preemption service, which would catch SIGTERM, is switched off.

    Raises:
      ArgumentError: the environment does not say which processes there are.

    Exits with 71 and one sentence if the others do not come in time.
    """
    arguments = job_arguments(os.environ)
    if arguments is None:
        return
    timeout_secs = peer_timeout(os.environ)
    timer = threading.Timer(timeout_secs, _give_up, (timeout_secs, arguments))
    timer.daemon = True
    timer.start()
    try:
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=timeout_secs + 60,  # at which JAX would abort the process
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECS,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECS,
        )
    except Exception as error:
        raise ArgumentError(
            f"this process cannot join its job ({type(error).__name__}: {error}); check the "
            "launcher's environment."
        ) from error
    finally:
        timer.cancel()
    if jax.process_index() > 0:
        console.silence()


def _give_up(timeout_secs: int, arguments: Mapping[str, Any]) -> None:
    """End the process, whose main thread is in a call that cannot be interrupted."""
    address = arguments.get("coordinator_address") or "the address that the cluster gives"
    count = arguments.get("num_processes", "the")
    print(
        f"error: after {timeout_secs} s not all of {count} processes have come together at "
        f"{address}; check the logs of the others, their indices, each of which may be given only "
        "once, and the network between the hosts, and start all of them again (to wait longer, "
        f"set {PEER_TIMEOUT}).",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_JOB_BROKEN)


def coordination_client() -> Any:
    """Return the client of JAX's coordination service, which works while the devices are busy."""
    from jax._src import distributed  # it has no public name

    return distributed.global_state.client


def is_main() -> bool:
    """Return whether this is process 0, which prints and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def all_or_none(elsewhere: ArgumentError | None = None) -> Iterator[None]:
    """Raise in all processes if the body fails in any of them.

    The others raise `elsewhere` if all errors are of its class, otherwise `ArgumentError`.
    """
    if jax.process_count() == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    kind = 0 if failure is None else 1 if isinstance(failure, type(elsewhere)) else 2
    kinds = np.asarray(multihost_utils.process_allgather(np.int32(kind)))
    if failure is not None and kind == kinds.max():
        raise failure
    if elsewhere is not None and kinds.max() == 1:
        raise elsewhere
    failed = np.flatnonzero(kinds == 2)
    require(
        not len(failed),
        f"process {failed[:1]} of this job stopped with an error; see its message, fix the cause "
        "and start all processes again.",
    )


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """End one of several processes at once on an unexpected error, so that the others notice.

    A process that exits normally would wait for the others, and they for it.
    """
    try:
        yield
    except Exception as error:
        if _exiting.is_set():  # the others exit too, which may have caused the error
            time.sleep(2 * EXIT_BARRIER_SECS)
        expected = type(error).__module__.startswith("ict_jax.")
        if jax.process_count() == 1 or expected:
            raise
        traceback.print_exc()
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on; if a "
            "connection was lost, another process died first: see its message. To resume from the "
            "last checkpoint, start all processes again.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_JOB_BROKEN)


_exiting = threading.Event()


def exit_now(exit_code: int, message: str) -> None:
    """Print a message and end this process without JAX's shutdown.

    To be called in all processes, from any thread; those that take longer than `EXIT_BARRIER_SECS`
    are left behind.
    """
    _exiting.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        coordination_client().wait_at_barrier("ict_jax/leave", EXIT_BARRIER_SECS * 1000)
    for stream, text in ((sys.stderr, f"{message}\n"), (sys.stdout, "")):
        with contextlib.suppress(OSError):  # it may be a file on a full disk
            stream.write(text)
            stream.flush()
    if is_main():  # whose end would abort the others
        time.sleep(1)
    os._exit(exit_code)


def require_agreement(values: Mapping[str, str]) -> None:
    """Raise `ArgumentError` unless all processes have equal values; the keys name them."""
    if jax.process_count() == 1:
        return
    sums = np.array([zlib.crc32(text.encode()) for text in values.values()], np.uint32)
    gathered = multihost_utils.process_allgather(sums)
    different = [
        name for name, column in zip(values, gathered.T, strict=True) if len(np.unique(column)) > 1
    ]
    require(
        not different,
        f"the processes of this job have different values of {' and '.join(different)}; start all "
        "of them with the same command, code and data.",
    )


def require_same_directory(directory: epath.Path, what: str) -> None:
    """Raise `ArgumentError` unless all processes see process 0's directory, named `what`."""
    if jax.process_count() == 1:
        return
    # A new name, since a network disk may cache for a minute that a file does not exist.
    number = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    token = directory / f".same_place_{number}"
    try:
        with all_or_none():
            if is_main():
                token.write_text("all processes see this\n")
        with all_or_none():
            require(
                _becomes_visible(token),
                f"{what}={directory} is not the same place for all processes of this job; give a "
                "directory of a disk that they share, or gs://BUCKET/....",
            )
    finally:
        if is_main():
            with contextlib.suppress(*io_errors()):
                token.unlink(missing_ok=True)


def _becomes_visible(path: epath.Path) -> bool:
    deadline = time.monotonic() + VISIBLE_SECS
    while time.monotonic() < deadline:
        with contextlib.suppress(*io_errors()):
            if path.exists():
                return True
        time.sleep(0.5)
    return False


def broadcast_from_main(value: float) -> float:
    """Return process 0's value in all processes."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def all_processes(value: bool) -> bool:
    """Return whether the value is true in all processes."""
    if jax.process_count() == 1:
        return value
    return bool(np.asarray(multihost_utils.process_allgather(np.bool_(value))).all())


def wait_for_all(name: str) -> None:
    """Wait until every process has reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
