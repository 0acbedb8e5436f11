"""What the processes of one job do together: find each other, agree, tell one that speaks.

JAX's own multi-controller runtime does the work; a cluster's launcher starts the processes.
"""

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
from ict_jax.runtime.storage import failures

HEARTBEAT_TIMEOUT_SECS = 60
"""A process that is not heard of for so long counts as dead, and the others stop."""

SHUTDOWN_TIMEOUT_SECS = 20
"""A process that ends with an error waits so long for the others to end with it."""

LEAVING_SECS = 10
"""Processes that leave at once wait so long for each other."""

SEEN_SECS = 20
"""What one process has written to a shared disk, the others see within this time."""

LEFT = 71  # EX_OSERR
"""Exit code of a process whose job is not, or no longer, whole."""


def initialize() -> None:
    """Joins the job that this process was started in; nothing on a single host.

    To be called before anything else of JAX. Only the first process prints progress from here on.
    SIGTERM is left as it is: JAX's preemption service, which would catch it, is switched off.

    Raises:
      ArgumentError: the environment does not say which processes there are.

    Exits with 71 and one sentence when the others do not come in time.
    """
    arguments = job_arguments(os.environ)
    if arguments is None:
        return
    timeout_secs = peer_timeout(os.environ)
    given_up = threading.Timer(timeout_secs, _give_up, (timeout_secs, arguments))
    given_up.daemon = True
    given_up.start()
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
        given_up.cancel()
    if jax.process_index() > 0:
        console.silence()


def _give_up(timeout_secs: int, arguments: Mapping[str, Any]) -> None:
    """Ends the process, which waits in a call that cannot be interrupted."""
    where = arguments.get("coordinator_address") or "the address that the cluster gives"
    count = arguments.get("num_processes", "the")
    sys.stderr.write(
        f"error: after {timeout_secs} s not all of {count} processes have come together at "
        f"{where}; look at the logs of the others, at their numbers, each of which may be given "
        "once, and at the network between the hosts, and start all of them again (to wait longer, "
        f"set {PEER_TIMEOUT}).\n"
    )
    sys.stderr.flush()
    os._exit(LEFT)


def coordination_client() -> Any:
    """The client of JAX's coordination service, which works while the devices do not."""
    from jax._src import distributed  # it has no public name

    return distributed.global_state.client


def process_count() -> int:
    """Processes of the job."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def all_or_none(elsewhere: ArgumentError | None = None) -> Iterator[None]:
    """What is done in it succeeds in all processes or raises in all of them.

    Args:
      elsewhere: what is raised in the others where nothing but errors of its class occurred.

    Raises:
      ArgumentError: it failed in another process.
    """
    if jax.process_count() == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    of_class = elsewhere is not None and isinstance(failure, type(elsewhere))
    kind = 0 if failure is None else 1 if of_class else 2
    kinds = np.asarray(multihost_utils.process_allgather(np.int32(kind)))
    if failure is not None and kind == kinds.max():
        raise failure
    if elsewhere is not None and kinds.max() == 1:
        raise elsewhere
    failed = np.flatnonzero(kinds == 2)
    require(
        not len(failed),
        f"process {failed[:1]} of this job stopped with an error; see what it says, mend it and "
        "start all processes again.",
    )


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """An unforeseen error in it ends a process of several at once, so that the others notice.

    A process that leaves in order would wait for the others, and they for it.
    """
    try:
        yield
    except Exception as error:
        if _leaving.is_set():  # so are the others, which may be what went wrong
            time.sleep(2 * LEAVING_SECS)
        foreseen = type(error).__module__.startswith("ict_jax.")
        if jax.process_count() == 1 or foreseen:
            raise
        traceback.print_exc()
        sys.stderr.write(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on; if a "
            "connection was lost, another process died first: see what it says. To go on from the "
            "last checkpoint, start all of them again.\n"
        )
        sys.stderr.flush()
        os._exit(LEFT)


_leaving = threading.Event()


def exit_now(exit_code: int, sentence: str) -> None:
    """Says a sentence and ends this process, without waiting in order for what the others do.

    To be called in all processes, from any thread; one that has not come after `LEAVING_SECS` is
    left behind.
    """
    _leaving.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        coordination_client().wait_at_barrier("ict_jax/leave", LEAVING_SECS * 1000)
    for stream, text in ((sys.stderr, f"{sentence}\n"), (sys.stdout, "")):
        with contextlib.suppress(OSError):  # it may be on the disk that is full
            stream.write(text)
            stream.flush()
    if is_main():  # whose end would abort the others
        time.sleep(1)
    os._exit(exit_code)


def require_agreement(values: Mapping[str, str]) -> None:
    """Raises `ArgumentError` unless all processes have the same texts; keys say what they are."""
    if jax.process_count() == 1:
        return
    sums = np.array([zlib.crc32(text.encode()) for text in values.values()], np.uint32)
    gathered = multihost_utils.process_allgather(sums)
    different = [
        what for what, column in zip(values, gathered.T, strict=True) if len(np.unique(column)) > 1
    ]
    require(
        not different,
        f"the processes of this job have different values of {' and '.join(different)}; start all "
        "of them with the same command, code and data.",
    )


def require_same_directory(directory: epath.Path, what: str) -> None:
    """Raises `ArgumentError` unless a directory is one and the same for all processes.

    Args:
      directory: exists in the first process.
      what: its name in the message.
    """
    if jax.process_count() == 1:
        return
    # A name that nobody has looked for: that it is not there may be cached for a minute.
    number = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    token = directory / f".same_place_{number}"
    try:
        with all_or_none():
            if is_main():
                token.write_text("all processes see this\n")
        with all_or_none():
            require(
                _is_seen(token),
                f"{what}={directory} is not the same place for all processes of this job; give a "
                "directory of a disk that they share, or gs://BUCKET/....",
            )
    finally:
        if is_main():
            with contextlib.suppress(*failures()):
                token.unlink(missing_ok=True)


def _is_seen(path: epath.Path) -> bool:
    deadline = time.monotonic() + SEEN_SECS
    while time.monotonic() < deadline:
        with contextlib.suppress(*failures()):
            if path.exists():
                return True
        time.sleep(0.5)
    return False


def broadcast_from_main(value: float) -> float:
    """The first process's value, in all processes."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def all_processes(value: bool) -> bool:
    """Whether it is true in all processes."""
    if jax.process_count() == 1:
        return value
    return bool(np.asarray(multihost_utils.process_allgather(np.bool_(value))).all())


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
