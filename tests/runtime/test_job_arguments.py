"""Which processes a job has, told from the environments that launchers leave."""

import pytest

from ict_jax.core.errors import ArgumentError
from ict_jax.runtime import launchers
from ict_jax.runtime.launchers import job_arguments, local_gpus

NONE = {"CUDA_VISIBLE_DEVICES": ""}
FOUR = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}


def explicit(count="2", index="1", address="10.0.0.1:99"):
    return dict(zip(launchers.EXPLICIT, (address, count, index), strict=True))


def open_mpi(rank="1", size="2", local="1", on_node="2", **other):
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    values = (rank, size, local, on_node)
    own = {f"OMPI_COMM_WORLD_{k}": v for k, v in zip(names, values, strict=True)}
    return {**own, "OMPI_MCA_orte_hnp_uri": "1.0;tcp://127.0.0.1:9", **NONE, **other}


def slurm(ntasks="4", node="0", local="0", tasks="2(x2)", **other):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": ntasks,
        "SLURM_PROCID": "0",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_NODEID": node,
        "SLURM_LOCALID": local,
        **NONE,
        **other,
    }


def gke(hosts, **other):
    return {"TPU_WORKER_HOSTNAMES": hosts, "TPU_WORKER_ID": "0", **other}


def by_mpi(count, index, gpus, address=None):
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "ompi",
        "local_device_ids": gpus,
    }


def by_slurm(gpus):
    return {"cluster_detection_method": "slurm", "local_device_ids": gpus}


HERE = {"coordinator_address": "10.0.0.1:99", "num_processes": 2, "process_id": 1}
SINGLE = {"TPU_SKIP_MDS_QUERY": "1"}  # JAX sets it where it sees no TPU
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "h:1"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}
CASES = [
    ("alone", SINGLE, None),
    ("explicit", explicit(), HERE),
    ("explicit, the only one", explicit("1", "0"), None),
    ("explicit, IPv6", explicit(address="[::1]:9"), {**HERE, "coordinator_address": "[::1]:9"}),
    ("explicit inside SLURM and Open MPI", {**slurm(), **open_mpi(), **explicit()}, HERE),
    ("Open MPI", open_mpi(), by_mpi(2, 1, None)),
    ("Open MPI, one process", {**open_mpi(size="1", rank="0"), **SINGLE}, None),
    ("Open MPI, one process, address", {**open_mpi(size="1"), **SINGLE, **ADDRESS}, None),
    ("Open MPI, GPUs", open_mpi(**FOUR), by_mpi(2, 1, [2, 3])),
    ("Open MPI, two hosts", open_mpi("3", "4", "1", "2", **FOUR), by_mpi(4, 3, [2, 3])),
    ("Open MPI, address", open_mpi(**ADDRESS), by_mpi(2, 1, None, "h:1")),
    ("Open MPI inside SLURM", {**slurm(), **open_mpi()}, by_mpi(2, 1, None)),
    ("SLURM", slurm(), by_slurm(None)),
    ("SLURM, GPUs, first task", slurm(**FOUR), by_slurm([0, 1])),
    ("SLURM, GPUs, second task", slurm(local="1", **FOUR), by_slurm([2, 3])),
    ("SLURM, task per node", slurm("2", tasks="1(x2)", **FOUR), by_slurm([0, 1, 2, 3])),
    ("SLURM, unequal, first", slurm("3", "0", "1", "2,1", **FOUR), by_slurm([2, 3])),
    ("SLURM, unequal, last", slurm("3", "1", "0", "2,1", **FOUR), by_slurm([0, 1, 2, 3])),
    ("SLURM, unequal, equal first two", slurm("5", "1", "1", "2(x2),1", **FOUR), by_slurm([2, 3])),
    (
        "SLURM, a GPU bound to each",
        slurm(local="1", SLURM_GPUS_PER_TASK="1", CUDA_VISIBLE_DEVICES="0"),
        by_slurm([0]),
    ),
    (
        "SLURM, two GPUs bound to each",
        slurm(local="1", SLURM_GPUS_PER_TASK="2", CUDA_VISIBLE_DEVICES="0,1"),
        by_slurm([0, 1]),
    ),
    (
        "SLURM, GPUs per task empty",
        slurm(local="1", SLURM_GPUS_PER_TASK="", **FOUR),
        by_slurm([2, 3]),
    ),
    ("SLURM, batch of one task", {**BATCH, **SINGLE}, None),
    ("SLURM, batch of one task, address", {**BATCH, **SINGLE, **ADDRESS}, None),
    ("GKE", gke("a,b,c,d"), {}),
    ("GKE, new name", {"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, {}),
    ("GKE, one host", gke("localhost"), None),
    ("GKE, slices of one host", gke("a", MEGASCALE_NUM_SLICES="2"), {}),
    ("GKE, one slice said", gke("a", MEGASCALE_NUM_SLICES="1"), None),
    ("GKE, slices empty", gke("a", MEGASCALE_NUM_SLICES=""), None),
    ("GKE, on the CPU", gke("a,b", JAX_PLATFORMS="cpu"), None),
    ("GKE, emulated", gke("a,b", JAX_PLATFORMS="cpu", JAX_FORCE_TPU_INIT="1"), {}),
    ("TPU VM", {}, {}),
]


@pytest.mark.parametrize("environment, expected", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_job_arguments(environment, expected, monkeypatch):
    monkeypatch.setattr(launchers, "_has_libtpu", lambda: True)
    assert job_arguments(environment) == expected


def test_without_libtpu_there_is_no_tpu_job(monkeypatch):
    monkeypatch.setattr(launchers, "_has_libtpu", lambda: False)
    assert job_arguments({}) is None


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


EXPLICIT_ADDRESS = {"JAX_COORDINATOR_ADDRESS": "h:abc"}
MISTAKES = [
    (without(explicit(), "JAX_PROCESS_ID"), "['JAX_PROCESS_ID'] are not set; set all of"),
    (without(explicit(), "JAX_COORDINATOR_ADDRESS"), "['JAX_COORDINATOR_ADDRESS'] are not set"),
    (explicit("2", "2"), "JAX_PROCESS_ID=2 must be from 0 to JAX_NUM_PROCESSES - 1 = 1; give"),
    (explicit("0", "0"), "JAX_PROCESS_ID=0 must be from 0"),
    (explicit("two"), "JAX_NUM_PROCESSES='two' must be a whole number; check the launcher"),
    (explicit("2", "-1"), "JAX_PROCESS_ID='-1' must be a whole number"),
    (without(open_mpi(), "OMPI_MCA_orte_hnp_uri"), "set JAX_COORDINATOR_ADDRESS=HOST:PORT of"),
    (without(open_mpi(), "OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK='' must be a whole"),
    (open_mpi(CUDA_VISIBLE_DEVICES="0,1,2"), "2 processes cannot share 3 GPUs equally; start"),
    (without(slurm(), "SLURM_STEP_NODELIST"), "given this job 4 tasks and this is none of them"),
    (slurm(CUDA_VISIBLE_DEVICES="0,1,2"), "2 processes cannot share 3 GPUs equally"),
    (slurm("many"), "SLURM_NTASKS='many' must be a whole number"),
    (slurm(tasks=""), "SLURM_STEP_TASKS_PER_NODE='' must be as 4(x2),3; start this with srun"),
    (slurm(tasks="abc"), "SLURM_STEP_TASKS_PER_NODE='abc' must be as"),
    (slurm(tasks="0"), "SLURM_STEP_TASKS_PER_NODE='0' must be as"),
    (slurm(local="5"), "SLURM_LOCALID=5 must be from 0 to the tasks of this node - 1 = 1; give"),
    (without(slurm(), "SLURM_PROCID"), "SLURM_PROCID='' must be a whole number"),
    (slurm(SLURM_PROCID="4"), "SLURM_PROCID=4 must be from 0 to SLURM_NTASKS - 1 = 3"),
    (slurm(**EXPLICIT_ADDRESS), "JAX_COORDINATOR_ADDRESS=h:abc must be HOST:PORT"),
    (open_mpi(on_node="0"), "OMPI_COMM_WORLD_LOCAL_RANK=1 must be from 0"),
    (open_mpi(rank="7"), "OMPI_COMM_WORLD_RANK=7 must be from 0 to OMPI_COMM_WORLD_SIZE - 1 = 1"),
    (open_mpi(**EXPLICIT_ADDRESS), "JAX_COORDINATOR_ADDRESS=h:abc must be HOST:PORT"),
    ({**SINGLE, **ADDRESS}, "['JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'] are not set; set all of"),
    *(
        (explicit(address=wrong), f"={wrong} must be HOST:PORT with a port from 1 to 65535; give")
        for wrong in ("h", "h:", ":1", "h:abc", "h:0", "h:99999", "h:-1")
    ),
]


@pytest.mark.parametrize("environment, message", MISTAKES)
def test_mistakes(environment, message):
    with pytest.raises(ArgumentError) as raised:
        job_arguments(environment)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "visible, local, on_node, expected",
    [
        ("0,1,2,3", 0, 1, [0, 1, 2, 3]),
        ("0,1,2,3", 1, 4, [1]),
        ("4,5,6,7", 1, 2, [2, 3]),  # indices among the visible, not their names
        ("GPU-a,GPU-b", 1, 2, [1]),
        ("3", 5, 8, [0]),  # bound to each by the launcher
        ("", 0, 1, None),
        ("", 1, 2, None),
        ("-1", 0, 1, None),
        ("NoDevFiles", 0, 1, None),
        ("0,-1,1", 0, 1, [0]),  # as CUDA reads it
    ],
)
def test_local_gpus(visible, local, on_node, expected):
    assert local_gpus({"CUDA_VISIBLE_DEVICES": visible}, local, on_node) == expected


def test_local_gpus_leaves_what_is_said_to_jax():
    assert local_gpus({**FOUR, "JAX_LOCAL_DEVICE_IDS": "2"}, 0, 1) is None


def test_the_shares_of_a_host_are_all_its_gpus():
    shares = [local_gpus(FOUR, local, 2) for local in range(2)]
    assert shares == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "secs, message",
    [("0", "must be at least 1"), ("x", "a whole number"), ("99999999999", "at most 86400; the")],
)
def test_the_wait_for_peers_is_checked(secs, message):
    with pytest.raises(ArgumentError, match=message):
        launchers.peer_timeout({launchers.PEER_TIMEOUT: secs})
