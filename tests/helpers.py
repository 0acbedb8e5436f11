"""Small configs and commands that several tests use."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

from configs import digits

ROOT = Path(__file__).parent.parent


def smoke_config(*, dropout=0.1, **training):
    """The digits config in its form of seconds, with changes to its training section."""
    config = digits.get_config("smoke")
    config.training.update(training)
    config.model.dropout = dropout
    config.evaluation.at_end = False
    return config


@contextlib.contextmanager
def full_disk(path, *, kilobytes):
    """A file system of that size, as a path; it is full when more is written to it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)], check=True
    )
    try:
        yield epath.Path(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def command(name, *arguments, cwd=ROOT, timeout=300, **environment):
    """Runs one of the project's commands as a user would, on one device."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run(
        [sys.executable, "-m", f"ict_jax.cli.{name}", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
