"""Runs in a bucket: train, stop, resume and sample, against a stand-in for the service."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.jobs import free_port
from ict_jax.checkpoints import interop
from ict_jax.data.bucket import CACHE, local_copy
from tests.checkpoints.interop.test_import_export import exportable_adm
from tests.fake_gcs import fake_gcs
from tests.helpers import ROOT, command
from tests.run.test_loop import logged

pytest.importorskip("gcsfs")

EVERY = ("evaluation.at_end=False", "checkpointing.every_steps=20", "logging.every_steps=20")


@pytest.fixture(scope="module")
def service():
    with fake_gcs() as server:
        yield server


@pytest.fixture
def bucket(service):
    """Name and content of each object in gs://bkt."""
    service.buckets["bkt"] = {}
    return service.buckets["bkt"]


def start(service, *arguments, **environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **service.environment, **environment}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, code=0):
    output, _ = process.communicate(timeout=100)
    assert process.returncode == code, output
    return output


def train_arguments(workdir, total_steps):
    values = [f"--config.{value}" for value in (*EVERY, f"total_steps={total_steps}")]
    return ["--config=configs/digits.py:smoke", f"--workdir={workdir}", *values]


def train(service, workdir, total_steps, **environment):
    arguments = ("-m", "ict_jax.cli.train", *train_arguments(workdir, total_steps))
    return start(service, *arguments, **environment)


def train_by_two(service, workdir, total_steps):
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        train(service, workdir, total_steps, **job, JAX_PROCESS_ID=str(index)) for index in (0, 1)
    ]
    said, _ = [ended(process) for process in processes]
    return said


PATHS = """
from ict_jax.runtime.storage import to_path, writable_directory
path = to_path("gs://bkt/a/b")
assert not path.exists()
writable_directory(path, "--out")
(path / "text").write_text("hello")
(path / "text").rename(path / "moved")
(path / "large").write_bytes(bytes(6_000_000))
assert (path / "moved").read_text() == "hello"
assert sorted(file.name for file in path.iterdir()) == ["large", "moved"]
assert (path / "large").stat().length == len((path / "large").read_bytes()) == 6_000_000
(path / "large").unlink()
"""


def test_paths_in_a_bucket(service, bucket):
    assert ended(start(service, "-c", PATHS)) == ""
    assert {name: data for name, (_, data) in bucket.items()} == {"a/b/moved": b"hello"}


EXPORTS = """
import jax
from tests.checkpoints.interop.test_import_export import exportable_adm
from ict_jax.checkpoints import interop
from ict_jax.checkpoints import load_ema
from ict_jax.checkpoints.weights import write_ema
from ict_jax.runtime.storage import to_path
loaded = exportable_adm()
print(interop.write_safetensors(loaded, "gs://bkt/a/b.safetensors"))
print(interop.write_diffusers(loaded, "gs://bkt/a/c"))
(to_path("gs://bkt/run/checkpoints/123/ema") / "cut").write_bytes(b"off")  # of a killed import
step = write_ema(to_path("gs://bkt/run"), *loaded)
assert not (step / "ema" / "cut").exists()
jax.tree.map(lambda a, b: (a == b).all() or 1 / 0, load_ema("gs://bkt/run").params, loaded.params)
"""


@pytest.mark.slow
def test_exports_and_imports_in_a_bucket_are_those_on_a_disk(service, bucket, tmp_path):
    said = ended(start(service, "-c", EXPORTS)).splitlines()
    assert said[:2] == ["gs://bkt/a/b.safetensors", "gs://bkt/a/c"]
    loaded = exportable_adm()
    interop.write_safetensors(loaded, tmp_path / "a" / "b.safetensors")
    interop.write_diffusers(loaded, tmp_path / "a" / "c")
    for path in (tmp_path / "a").rglob("*.*"):
        assert bucket[path.relative_to(tmp_path).as_posix()][1] == path.read_bytes()
    names = {name for name in bucket if name.startswith("a/") and not name.endswith("/")}
    assert len(names) == 5


DATA = """
import io
import numpy as np
from PIL import Image
from ict_jax.core.errors import ArgumentError
from ict_jax.data import load_data
from ict_jax.runtime.storage import to_path
rng = np.random.default_rng(0)
for index in range(40):
    png = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(png, "PNG")
    to_path(f"gs://bkt/photos/{'ab'[index % 2]}/{index}.png").write_bytes(png.getvalue())
def load(url):
    return load_data("folder", data_dir=url, image_size=8)
dataset = load("gs://bkt/photos")
assert dataset.num_classes == 2 and dataset.image_shape == (8, 8, 3)
load("gs://bkt/photos")
try:
    load("gs://bkt/nothing")
except ArgumentError as error:
    print(error)
"""


@pytest.mark.slow
def test_data_in_a_bucket_is_copied_once(service, bucket, tmp_path):
    said = ended(start(service, "-c", DATA, ICT_DATA_CACHE=str(tmp_path))).splitlines()
    assert len(said) == 2 and said[0].startswith("copied ")
    assert said[1] == "gs://bkt/nothing holds no files; give another config.data.data_dir."
    copied = {path.name: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert copied == {name.rpartition("/")[2]: data for name, (_, data) in bucket.items()}


def test_of_several_processes_one_copies_and_what_is_deleted_goes(tmp_path, monkeypatch):
    """A directory stands for the bucket, and threads for the processes."""
    source, copied, original = tmp_path / "source", [], shutil.copyfileobj
    (source / "a").mkdir(parents=True)
    for name in ("a/1", "a/2", "3"):
        (source / name).write_text(name)

    def noted(read, written, size):
        copied.append(read.name)
        time.sleep(0.05)
        original(read, written, size)

    monkeypatch.setattr("ict_jax.data.bucket.shutil.copyfileobj", noted)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        (target,) = set(pool.map(local_copy, [str(source)] * 4))
    assert sorted(copied) == sorted(str(source / name) for name in ("a/1", "a/2", "3"))
    (source / "a" / "1").unlink()
    assert local_copy(str(source)) == target
    files = [path for path in Path(target).rglob("*") if path.is_file()]
    assert {path.relative_to(target).as_posix() for path in files} == {"a/2", "3"}
    assert len(copied) == 3
    Path(target, "3").write_text("")  # as if it was cut off
    local_copy(str(source))
    assert Path(target, "3").read_text() == "3"


@pytest.mark.slow
def test_a_stopped_and_resumed_run_in_a_bucket_is_that_on_a_disk(service, bucket, tmp_path):
    process = train(service, "gs://bkt/runs/digits", 240)
    while "compiled the training step" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "saved; to resume" in ended(process, 75)
    assert "runs/digits/checkpoints/240/commit_success.txt" not in bucket
    assert "resuming from step" in ended(train(service, "gs://bkt/runs/digits", 240))

    on_disk = command("train", *train_arguments(tmp_path / "disk", 240))
    assert on_disk.returncode == 0, on_disk.stderr
    for name, (_, data) in bucket.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    copied = tmp_path / "runs" / "digits"
    for name in ("config.json", "data.png", "checkpoints/240/fingerprint/metadata"):
        assert (copied / name).read_bytes() == (tmp_path / "disk" / name).read_bytes()
    assert list((copied / "samples").glob("one_step_*.png"))
    assert logged(copied) == logged(tmp_path / "disk")

    arguments = ("--checkpoint=gs://bkt/runs/digits", "--out=gs://bkt/samples", "--seeds=0-3")
    ended(start(service, "-m", "ict_jax.cli.sample", *arguments))
    assert {"samples/grid.png", "samples/samples.npz"} <= bucket.keys()


@pytest.mark.slow
def test_two_processes_survive_damage_in_a_bucket(service, bucket):
    train_by_two(service, "gs://bkt/run", 40)
    parts = [name for name in bucket if "/checkpoints/40/ema/ocdbt.process_1/d/" in name]
    for name in parts:
        bucket[name] = bucket[name][0], b""
    assert parts
    output = train_by_two(service, "gs://bkt/run", 40)
    assert "resuming from step 20" in output
    assert "run/damaged_checkpoints/40/commit_success.txt" in bucket

    del bucket["run/checkpoints/40/commit_success.txt"]  # as if the save had been cut off
    newest = "from ict_jax.checkpoints import locate; print(locate('gs://bkt/run').name)"
    assert ended(start(service, "-c", newest)) == "20\n"
