"""Directories that cannot be written or locked: one sentence, or a warning."""

import errno
import fcntl
import os
import subprocess

import pytest

from ict_jax import files
from ict_jax.core.errors import ArgumentError


def lock(path):
    with files.locked_directory(path, "--workdir"):
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
    with pytest.raises(OSError, match="of the run"), files.locked_directory(tmp_path, "--workdir"):
        raise OSError("of the run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small file system")
def test_a_full_disk_is_found_before_anything_is_done(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        with pytest.raises(OSError), (tmp_path / "filling").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        with pytest.raises(ArgumentError, match=r"cannot be written to \(No space left on device"):
            files.writable_directory(tmp_path, "--workdir")
        assert [path.name for path in tmp_path.iterdir()] == ["filling"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
