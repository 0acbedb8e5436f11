"""What the processes of one job do together: find each other, agree, tell one that speaks.

JAX's own multi-controller runtime does the work; a cluster's launcher starts the processes.
"""

import contextlib
import os
import re
import sys
import threading
import traceback
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ict_jax import console
from ict_jax.core.errors import ArgumentError, require

EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Environment of processes that are started by hand: host:port of process 0, count, index."""

PEER_TIMEOUT = "ICT_PEER_TIMEOUT_SECS"
"""Environment variable: seconds to wait for the other processes at the start; default 300."""

HEARTBEAT_TIMEOUT_SECS = 60
"""A process that is not heard of for so long counts as dead, and the others stop."""

SHUTDOWN_TIMEOUT_SECS = 20
"""A process that ends with an error waits so long for the others to end with it."""


def initialize() -> None:
    """Joins the job that this process was started in; nothing on a single host.

    To be called before anything else of JAX. Only the first process prints progress from here on.

    Raises:
      ArgumentError: the environment does not say which processes there are.

    Exits with 1 and one sentence when the others do not come in time.
    """
    arguments = job_arguments(os.environ)
    if arguments is None:
        return
    timeout_secs = _peer_timeout(os.environ)
    given_up = threading.Timer(timeout_secs, _give_up, (timeout_secs, arguments))
    given_up.daemon = True
    given_up.start()
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=timeout_secs + 60,  # at which JAX would abort the process
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECS,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECS,
        )
    except (RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"this process cannot join its job ({error}); check the launcher's environment."
        ) from error
    finally:
        given_up.cancel()
    if jax.process_index() > 0:
        console.silence()


def job_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is called with; None where there is one process.

    Args:
      environment: as `os.environ`. In this order count: `EXPLICIT`, Open MPI, SLURM, TPU.

    Raises:
      ArgumentError: several processes were asked for and the variables do not tell them apart.
    """
    if any(environment.get(name) for name in EXPLICIT[1:]):
        missing = [name for name in EXPLICIT if not environment.get(name)]
        require(not missing, f"{missing} are not set; set all of {list(EXPLICIT)} or none.")
        count, index = (_whole(environment, name) for name in EXPLICIT[1:])
        require(
            0 <= index < count,
            f"{EXPLICIT[2]}={index} must be from 0 to {EXPLICIT[1]} - 1 = {count - 1}; give "
            "every process its own.",
        )
        return None if count == 1 else _found(environment[EXPLICIT[0]], count, index)
    if _whole(environment, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        return _open_mpi(environment)
    if "SLURM_JOB_ID" in environment and _whole(environment, "SLURM_NTASKS", 1) > 1:
        return _slurm(environment)
    return {} if _is_tpu_job(environment) else None


def _found(address: str | None, count: int, index: int) -> dict[str, Any]:
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def _open_mpi(environment: Mapping[str, str]) -> dict[str, Any]:
    count, index, local, on_node = (
        _whole(environment, f"OMPI_COMM_WORLD_{name}")
        for name in ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
    )
    address = environment.get(EXPLICIT[0])
    require(
        address is not None or "OMPI_MCA_orte_hnp_uri" in environment,
        f"this Open MPI does not tell where its first process is; set {EXPLICIT[0]}=HOST:PORT of "
        "that host for all processes (mpirun -x).",
    )
    return {
        **_found(address, count, index),
        "cluster_detection_method": "ompi",
        "local_device_ids": local_gpus(environment, local, on_node),
    }


def _slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    require(
        "SLURM_STEP_NODELIST" in environment,
        f"SLURM has given this job {environment['SLURM_NTASKS']} tasks and this is none of them; "
        "start it with srun.",
    )
    # As in 4(x2),3: four tasks on each of the first two nodes, three on the last.
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    counts = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(count)] * int(times or 1)
    node = _whole(environment, "SLURM_NODEID", 0)
    local = _whole(environment, "SLURM_LOCALID", 0)
    on_node = counts[min(node, len(counts) - 1)]
    if "SLURM_GPUS_PER_TASK" in environment:  # SLURM has bound each task to its own
        local, on_node = 0, 1
    gpus = local_gpus(environment, local, on_node)
    return {"cluster_detection_method": "slurm", "local_device_ids": gpus}


def local_gpus(environment: Mapping[str, str], local: int, on_node: int) -> list[int] | None:
    """Which of the GPUs that a process sees are its own: an equal share of them, in order.

    JAX alone would give one GPU to each process, whatever there is.

    Args:
      environment: as `os.environ`.
      local: index of the process among those of its node.
      on_node: processes on the node.

    Returns:
      Indices among the visible GPUs; None without GPUs, or where JAX_LOCAL_DEVICE_IDS says it.

    Raises:
      ArgumentError: the GPUs cannot be shared out equally.
    """
    if environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    else:
        count = len([gpu for gpu in visible.split(",") if gpu])
    if count < on_node:  # the launcher has bound each process to its own
        return list(range(count)) or None
    require(
        count % on_node == 0,
        f"{on_node} processes cannot share {count} GPUs equally; start a number of processes on "
        "each node that divides them.",
    )
    share = count // on_node
    return list(range(local * share, (local + 1) * share))


def _is_tpu_job(environment: Mapping[str, str]) -> bool:
    """Whether JAX should look up the workers of a TPU slice."""
    if environment.get("JAX_PLATFORMS") == "cpu" and not environment.get("JAX_FORCE_TPU_INIT"):
        return False
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if hosts is not None:  # GKE
        return "," in hosts or (environment.get("MEGASCALE_NUM_SLICES") or "1") != "1"
    # JAX sets TPU_SKIP_MDS_QUERY where it is imported and sees no TPU: this is a TPU VM.
    return "TPU_SKIP_MDS_QUERY" not in environment and _has_libtpu()


def _has_libtpu() -> bool:
    from importlib import util

    return util.find_spec("libtpu") is not None


def _whole(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name) or ("" if default is None else str(default))
    require(text.isdecimal(), f"{name}={text!r} must be a whole number; check the launcher.")
    return int(text)


def _peer_timeout(environment: Mapping[str, str]) -> int:
    secs = _whole(environment, PEER_TIMEOUT, 300)
    require(secs >= 1, f"{PEER_TIMEOUT}={secs} must be at least 1; the default is 300.")
    return secs


def _give_up(timeout_secs: int, arguments: Mapping[str, Any]) -> None:
    """Ends the process, which waits in a call that cannot be interrupted."""
    where = arguments.get("coordinator_address") or "the address that the cluster gives"
    count = arguments.get("num_processes", "the")
    sys.stderr.write(
        f"error: after {timeout_secs} s not all of {count} processes have come together at "
        f"{where}; look at the logs of the others and at the network between the hosts, and "
        f"start all of them again (to wait longer, set {PEER_TIMEOUT}).\n"
    )
    sys.stderr.flush()
    os._exit(1)


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What is done in it succeeds in all processes or raises in all of them.

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
    failed = np.flatnonzero(multihost_utils.process_allgather(np.int32(failure is not None)))
    if failure is not None:
        raise failure
    require(
        not len(failed),
        f"process {failed[:1]} of this job stopped with an error; see what it says, mend it and "
        "start all processes again.",
    )


@contextlib.contextmanager
def leaving_at_once(exit_code: int) -> Iterator[None]:
    """An unforeseen error in it ends a process of several at once, so that the others notice.

    A process that leaves in order would wait for the others, and they for it.
    """
    try:
        yield
    except Exception as error:
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
        os._exit(exit_code)


def agree(text: str, what: str) -> None:
    """Raises `ArgumentError` unless all processes have the same text; `what` says what it is."""
    numbers = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    require(
        len(np.unique(numbers)) == 1,
        f"the processes of this job have different values of {what}; start all of them with the "
        "same command, code and data.",
    )


def from_main(value: float) -> float:
    """The first process's value, in all processes."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
