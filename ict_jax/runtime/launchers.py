"""Detection of a job's processes from the environment that its launcher sets."""

import itertools
import re
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

from ict_jax.core.errors import require

EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Variables of processes that are started by hand: host:port of process 0, count, index."""

PEER_TIMEOUT = "ICT_PEER_TIMEOUT_SECS"
"""Environment variable: seconds to wait for the other processes at startup; default 300."""

LONGEST_PEER_TIMEOUT_SECS = 86_400


def job_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`, or None for a single process.

    The variables count in this order: `EXPLICIT`, Open MPI, SLURM, TPU. Raise `ArgumentError` if
    they request several processes and do not tell them apart.
    """
    if any(environment.get(name) for name in EXPLICIT[1:]):
        return _explicit(environment)
    if read_int(environment, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        return _open_mpi(environment)
    if "SLURM_JOB_ID" in environment and read_int(environment, "SLURM_NTASKS", 1) > 1:
        return _slurm(environment)
    if _is_tpu_job(environment):
        return {}
    launched = "OMPI_COMM_WORLD_SIZE" in environment or "SLURM_JOB_ID" in environment
    if environment.get(EXPLICIT[0]) and not launched:
        return _explicit(environment)
    return None


def _explicit(environment: Mapping[str, str]) -> dict[str, Any] | None:
    missing = [name for name in EXPLICIT if not environment.get(name)]
    require(not missing, f"{missing} are not set; set all of {list(EXPLICIT)} or none.")
    count, index = (read_int(environment, name) for name in EXPLICIT[1:])
    _check_index(index, count, EXPLICIT[2], EXPLICIT[1])
    return None if count == 1 else _arguments(_address(environment), count, index)


def _check_index(index: int, count: int, index_name: str, count_name: str) -> None:
    require(
        0 <= index < count,
        f"{index_name}={index} must be from 0 to {count_name} - 1 = {count - 1}; give every "
        "process its own.",
    )


def _address(environment: Mapping[str, str]) -> str | None:
    address = environment.get(EXPLICIT[0])
    host, colon, port = (address or "").rpartition(":")
    require(
        not address or bool(host and colon and port.isdecimal() and 0 < int(port) < 2**16),
        f"{EXPLICIT[0]}={address} must be HOST:PORT with a port from 1 to 65535; give that of the "
        "first process.",
    )
    return address or None


def _arguments(address: str | None, count: int, index: int) -> dict[str, Any]:
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def _open_mpi(environment: Mapping[str, str]) -> dict[str, Any]:
    names = [f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK")]
    count, index, on_node, local = (read_int(environment, name) for name in names)
    _check_index(index, count, names[1], names[0])
    _check_index(local, on_node, names[3], names[2])
    address = _address(environment)
    require(
        address is not None or "OMPI_MCA_orte_hnp_uri" in environment,
        f"this Open MPI does not say where its first process is; set {EXPLICIT[0]}=HOST:PORT of "
        "that host for all processes (mpirun -x).",
    )
    return {
        **_arguments(address, count, index),
        "cluster_detection_method": "ompi",
        "local_device_ids": local_gpus(environment, local, on_node),
    }


def _slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    require(
        "SLURM_STEP_NODELIST" in environment,
        f"SLURM has given this job {environment['SLURM_NTASKS']} tasks and this is none of them; "
        "start it with srun.",
    )
    _address(environment)
    count, index = read_int(environment, "SLURM_NTASKS"), read_int(environment, "SLURM_PROCID")
    _check_index(index, count, "SLURM_PROCID", "SLURM_NTASKS")
    # 4(x2),3 means four tasks on each of the first two nodes and three on the last.
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    counts = []
    for on_each, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(on_each)] * int(times or 1)
    require(
        bool(counts) and min(counts) > 0,
        f"SLURM_STEP_TASKS_PER_NODE={tasks!r} must be as 4(x2),3; start this with srun.",
    )
    node = read_int(environment, "SLURM_NODEID", 0)
    local = read_int(environment, "SLURM_LOCALID", 0)
    on_node = counts[min(node, len(counts) - 1)]
    _check_index(local, on_node, "SLURM_LOCALID", "the tasks of this node")
    if environment.get("SLURM_GPUS_PER_TASK"):  # SLURM has bound each task to its own GPUs
        local, on_node = 0, 1
    gpus = local_gpus(environment, local, on_node)
    return {"cluster_detection_method": "slurm", "local_device_ids": gpus}


def local_gpus(environment: Mapping[str, str], local: int, on_node: int) -> list[int] | None:
    """Assign process `local` of those on a node an equal share of the visible GPUs, in order.

    JAX by itself would give each process one GPU, however many there are.

    Returns:
      Indices among the visible GPUs; None without GPUs, or if JAX_LOCAL_DEVICE_IDS is set.
    """
    if environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    else:
        count = _count_visible(visible)
    if count < on_node:  # the launcher has bound each process to its own GPUs
        return list(range(count)) or None
    require(
        count % on_node == 0,
        f"{on_node} processes cannot share {count} GPUs equally; start a number of processes on "
        "each node that divides them.",
    )
    share = count // on_node
    return list(range(local * share, (local + 1) * share))


def _count_visible(visible: str) -> int:
    """Count the GPUs in CUDA_VISIBLE_DEVICES; CUDA ignores all after the first invalid one."""
    names = map(str.strip, visible.split(","))
    return len(list(itertools.takewhile(re.compile(r"\d+|GPU-.+|MIG-.+").fullmatch, names)))


def _is_tpu_job(environment: Mapping[str, str]) -> bool:
    """Return whether JAX should look up the workers of a TPU slice."""
    if environment.get("JAX_PLATFORMS") == "cpu" and not environment.get("JAX_FORCE_TPU_INIT"):
        return False
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if hosts is not None:  # GKE
        return "," in hosts or (environment.get("MEGASCALE_NUM_SLICES") or "1") != "1"
    # Importing JAX sets TPU_SKIP_MDS_QUERY if it sees no TPU; without it this is a TPU VM.
    return "TPU_SKIP_MDS_QUERY" not in environment and _has_libtpu()


def _has_libtpu() -> bool:
    return util.find_spec("libtpu") is not None


def read_int(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return a variable as an integer, or the default if it is empty or not set."""
    text = environment.get(name) or ("" if default is None else str(default))
    require(text.isdecimal(), f"{name}={text!r} must be a whole number; check the launcher.")
    return int(text)


def peer_timeout(environment: Mapping[str, str]) -> int:
    """Return the seconds to wait for the other processes, from 1 to a day."""
    secs = read_int(environment, PEER_TIMEOUT, 300)
    require(
        1 <= secs <= LONGEST_PEER_TIMEOUT_SECS,
        f"{PEER_TIMEOUT}={secs} must be at least 1 and at most {LONGEST_PEER_TIMEOUT_SECS}; the "
        "default is 300.",
    )
    return secs
