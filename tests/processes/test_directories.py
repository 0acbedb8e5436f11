"""Directories that cannot be written or locked: one sentence, or a warning."""

import errno
import fcntl
import os

import pytest

from ict_jax import files
from ict_jax.cli import common
from ict_jax.core.errors import ArgumentError, Diverged, NotSaved
from tests.helpers import full_disk


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


def test_a_full_disk_is_found_before_anything_is_done(tmp_path):
    with full_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError), (disk / "filling").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        with pytest.raises(ArgumentError, match=r"cannot be written to \(No space left on device"):
            files.writable_directory(disk, "--workdir")
        assert [path.name for path in disk.iterdir()] == ["filling"]


def test_what_does_not_fit_leaves_nothing_and_what_was_there_stays(tmp_path):
    with full_disk(tmp_path / "disk", kilobytes=64) as disk:
        files.write_at_once(disk / "a", b"old")
        with pytest.raises(
            NotSaved, match=r"a cannot be written \(No space left on device\); make"
        ):
            files.write_at_once(disk / "a", bytes(100_000))
        with pytest.raises(NotSaved), files.made_at_once(disk / "b") as directory:
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
