"""Two processes find each other in the environments of GKE and of TPU VMs, emulated on the CPU."""

import http.server
import os
import subprocess
import sys
import threading
from importlib import util

import pytest

from experiments.jobs import free_port
from tests.helpers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not util.find_spec("libtpu"), reason="libtpu is not installed (the extra 'tpu')"
    ),
]
SCRIPT = """
import os
import jax
if "GCE_METADATA_IP" in os.environ:
    os.environ.pop("TPU_SKIP_MDS_QUERY")  # JAX has set it, for there is no TPU here
from ict_jax.runtime import processes
processes.initialize()
print("process", jax.process_index(), "of", jax.process_count(), "main", processes.is_main())
"""
METADATA = {
    "worker-network-endpoints": "localhost,localhost",
    "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-8'\nTYPE: 'V5LITE_POD'\n",
}


def found(environments):
    """What the processes print, one for each environment."""
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TPU_", "MEGASCALE_", "SLURM_", "OMPI_", "JAX_NUM"))
    }
    common = {
        "JAX_PLATFORMS": "cpu",
        "JAX_FORCE_TPU_INIT": "1",
        "JAX_COORDINATOR_PORT": str(free_port()),
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "ICT_PEER_TIMEOUT_SECS": "60",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env={**outside, **common, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in environments
    ]
    said = []
    for process in running:
        out, error = process.communicate(timeout=80)
        assert process.returncode == 0, error
        said += [line for line in out.splitlines() if line.startswith("process ")]
    return said


EXPECTED = ["process 0 of 2 main True", "process 1 of 2 main False"]
ONE_SLICE = {f"MEGASCALE_{name}": "" for name in ("COORDINATOR_ADDRESS", "NUM_SLICES", "SLICE_ID")}


def test_gke_hosts_of_a_slice():
    hosts = {"TPU_WORKER_HOSTNAMES": "localhost,localhost", **ONE_SLICE}
    assert found([{**hosts, "TPU_WORKER_ID": str(i)} for i in range(2)]) == EXPECTED


def test_gke_slices_of_a_host():
    slices = {
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "MEGASCALE_COORDINATOR_ADDRESS": "localhost",
        "MEGASCALE_NUM_SLICES": "2",
    }
    assert found([{**slices, "MEGASCALE_SLICE_ID": str(i)} for i in range(2)]) == EXPECTED


def metadata_server(worker):
    """Google's metadata, as one worker of a TPU VM sees it."""
    values = {**METADATA, "agent-worker-number": str(worker)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            value = values.get(self.path.rsplit("/", 1)[1])
            self.send_response(404 if value is None else 200)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *arguments):
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def test_workers_of_a_tpu_vm():
    servers = [metadata_server(worker) for worker in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        addresses = [f"127.0.0.1:{server.server_address[1]}" for server in servers]
        assert found([{"GCE_METADATA_IP": address} for address in addresses]) == EXPECTED
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
