"""Directories that cannot be written or locked: one sentence, or a warning."""

import errno
import fcntl
import os

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from ml_collections import ConfigDict

from ict_jax.checkpoints import directory as checkpoint_directory
from ict_jax.checkpoints import integrity
from ict_jax.checkpoints.weights import write_ema
from ict_jax.cli import common
from ict_jax.core.errors import ArgumentError, Diverged, NotSaved
from ict_jax.runtime import locks, storage
from tests.helpers import full_disk


def lock(path):
    with locks.locked_directory(path, "--workdir"):
        pass


def test_a_lock_that_is_a_directory(tmp_path):
    (tmp_path / ".lock").mkdir()
    message = r"^the lock of --workdir=.*/.lock cannot be written to \(Is a directory\); give a"
    with pytest.raises(ArgumentError, match=message):
        lock(tmp_path)


def failing_flock(monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_used_and_this_is_said(tmp_path, monkeypatch, capsys, number):
    failing_flock(monkeypatch, number)
    lock(tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"WARNING: the disk of --workdir={tmp_path} has no locks (")


def test_another_failure_of_a_lock_is_no_other_run(tmp_path, monkeypatch):
    failing_flock(monkeypatch, errno.EIO)
    with pytest.raises(ArgumentError, match=r"cannot be written to \(Input/output error\)"):
        lock(tmp_path)


def test_what_fails_within_the_lock_is_left_as_it_is(tmp_path):
    with (
        pytest.raises(OSError, match="of the run"),
        locks.locked_directory(tmp_path, "--workdir"),
    ):
        raise OSError("of the run")


def test_a_full_disk_is_found_before_anything_is_done(tmp_path):
    with full_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError), (disk / "filling").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        with pytest.raises(ArgumentError, match=r"cannot be written to \(No space left on device"):
            storage.writable_directory(disk, "--workdir")
        assert [path.name for path in disk.iterdir()] == ["filling"]


NAMES = ["run[1]", "[!a]", "**", "a*", "a?", "a]", "a\\b", os.fsdecode(b"\xff"), "x.__lock", "-x"]
NAMES += [" a b ", "#", "%41", "é", "a\nb", "~", "{a}", "a:b", "gs:a", "42", "s3", "x.zarray"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_below_any_name_is_read_there(tmp_path, name):
    workdir = storage.to_path(tmp_path / name / "run")
    params = {"w": jnp.arange(3.0)}
    step = write_ema(workdir, params, ConfigDict({"a": 1}), 7)
    assert os.fspath(step) == os.fspath(workdir / "checkpoints/7")
    found = integrity.read_items(step, ema=ocp.args.StandardRestore(params))["ema"]
    np.testing.assert_array_equal(found["w"], params["w"])
    assert integrity.read_json_item(step, "config") == {"a": 1}
    assert os.listdir(tmp_path) == [name] and os.listdir(step.parent) == ["7"]
    checkpoint_directory.quarantine(step)
    assert checkpoint_directory.damaged_steps(step.parent) == [7]


def test_a_save_in_progress_in_a_directory_that_a_name_matches_is_left(tmp_path):
    half = f"20.{checkpoint_directory.INCOMPLETE}-1"
    for name in ("exp?", "exp1"):
        (tmp_path / name / half).mkdir(parents=True)
    checkpoint_directory.remove_incomplete(epath.Path(tmp_path / "exp?"))
    assert not (tmp_path / "exp?" / half).exists() and (tmp_path / "exp1" / half).exists()


@pytest.mark.parametrize("name", ["run[1]", "run?", "a*/run", "a\\b"])
def test_patterns_in_a_bucket_are_refused(name):
    with pytest.raises(ArgumentError, match=r"which gcsfs treats as patterns; choose"):
        storage.to_path(f"gs://bucket/{name}")


@pytest.mark.parametrize("mount", ["gs", "s3", "az", "hf"])
def test_a_mounted_directory_named_as_a_scheme_is_no_bucket(mount):
    path = storage.to_path(f"/{mount}/run")
    assert not path.exists() and os.path.samefile(path.parent.parent, "/")


def test_without_descriptors_by_name_a_pattern_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a[1]").mkdir()
    monkeypatch.setattr(epath.Path, "is_dir", lambda _: False)
    monkeypatch.setattr(type(epath.Path("/")), "is_dir", lambda _: False)
    with pytest.raises(ArgumentError, match="which only works on Linux; give a directory with"):
        storage.literal_path(storage.to_path(tmp_path / "a[1]"))


def test_what_does_not_fit_leaves_nothing_and_what_was_there_stays(tmp_path):
    with full_disk(tmp_path / "disk", kilobytes=64) as disk:
        storage.write_atomically(disk / "a", b"old")
        with pytest.raises(
            NotSaved, match=r"a cannot be written \(No space left on device\); make"
        ):
            storage.write_atomically(disk / "a", bytes(100_000))
        with pytest.raises(NotSaved), storage.atomic_path(disk / "b") as directory:
            directory.mkdir()
            (directory / "part").write_bytes(bytes(100_000))
        assert [path.name for path in disk.iterdir()] == ["a"]
        assert (disk / "a").read_bytes() == b"old"


@pytest.mark.parametrize(("error", "code"), [(Diverged, 3), (NotSaved, 74), (ArgumentError, 1)])
def test_every_command_has_the_exit_codes_of_training(capsys, error, code):
    def main(values):
        raise error("said\nso")

    assert common.run(main, lambda values, argv: None, "", ["command"]) == code
    assert capsys.readouterr().err.endswith(": said so\n")
