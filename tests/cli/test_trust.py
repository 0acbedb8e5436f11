"""Configs run nothing that lies near them, and checkpoints of others reach for nothing."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import ict_jax
from ict_jax.checkpoints.weights import write_ema
from ict_jax.cli import common
from ict_jax.config.check import check_run, dataset_of_checkpoint, resolve
from ict_jax.config.network import build_init_params
from ict_jax.data import load_data
from ict_jax.runtime.storage import to_path
from tests.helpers import ROOT, smoke_config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No place was named before; classifiers that other tests trained are there."""
    shared = Path(os.environ["XDG_CACHE_HOME"]) / "ict_jax" / "classifiers"
    shared.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "ict_jax").mkdir(parents=True)
    os.symlink(shared, tmp_path / "cache" / "ict_jax" / "classifiers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


CONFIG = """
import optax
from configs import base
from ml_collections import ConfigDict
def get_config():
    return ConfigDict({"optax": optax.__file__, "base": base.WHERE, "total_steps": 1})
"""
SHOW = """
import sys
from ict_jax.cli import common
def define(values, argv):
    common.define_config(values, argv, "")
sys.exit(common.run(lambda values: print(values.config.optax, values.config.base), define, "",
                    ["show", "--config=" + sys.argv[1]]))
"""


@pytest.mark.parametrize("package", [True, False])
def test_a_config_runs_the_configs_beside_it_and_nothing_else(package, tmp_path):
    """Neither what lies in the directory above, nor configs of the present directory."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "mine.py").write_text(CONFIG)
    (configs / "base.py").write_text("WHERE = __file__")
    if package:
        (configs / "__init__.py").write_text("")
    for name in ("optax", "tensorflow", "jax_plugins"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran')")
    result = subprocess.run(
        [sys.executable, "-c", SHOW, configs / "mine.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    optax, base = result.stdout.split()
    assert Path(base) == configs / "base.py" and not Path(optax).is_relative_to(tmp_path)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """`stranger(data, **paths)` -> the work directory of a model that names those."""
    config = resolve(smoke_config(), load_data("digits"))
    params = jax.jit(build_init_params(config))(jax.random.key(0))
    made = iter(range(100))

    def make(data, **paths):
        workdir = tmp_path_factory.mktemp("stranger") / str(next(made))
        changed = config.copy_and_resolve_references()
        changed.data.update(data)
        changed.update(paths)
        write_ema(to_path(workdir), params, changed, 7)
        return workdir

    return make


def evaluate(name, *arguments):
    argv = ["command", *map(str, arguments)]
    module = importlib.import_module(f"ict_jax.cli.{name}")
    return common.run(module.run, module.define_flags, "", argv)


@pytest.mark.parametrize("name", ["evaluate", "search_sigmas"])
@pytest.mark.parametrize(
    "data",
    [
        {"name": "folder", "data_dir": "/etc", "image_size": 8},
        {"name": "fashion_mnist", "data_dir": "gs://evil/data"},
        {"name": "tfds:images", "data_dir": "a; rm -r b"},
    ],
)
def test_a_model_reaches_for_no_place_that_was_not_named(
    name, data, stranger, monkeypatch, capsys, tmp_path
):
    for reads in ("load_fashion_mnist", "load_folder", "load_tfds", "local_copy"):
        monkeypatch.setattr(f"ict_jax.data.sets.{reads}", None)
    assert evaluate(name, f"--checkpoint={stranger(data)}", f"--out={tmp_path}") == 1
    message = capsys.readouterr().err
    place = data["data_dir"] if "//" in data["data_dir"] else os.path.abspath(data["data_dir"])
    advice = f"--data_dir={place}" if " " not in place else f"--data_dir='{place}'"
    assert f"allow that with {advice}, or give another place" in message


def test_a_place_is_allowed_where_the_user_names_it(stranger, tmp_path, monkeypatch):
    """In a config that was trained or checked, or as --data_dir; by an absolute path or not."""
    (tmp_path / "data").mkdir()
    config = smoke_config()
    config.data.update({"name": "digits", "data_dir": "data"})
    with pytest.raises(ict_jax.ArgumentError, match="a place that was not named on this machine"):
        dataset_of_checkpoint(config, "runs/x")
    assert dataset_of_checkpoint(config, "runs/x", str(tmp_path))[1].name == "digits"
    monkeypatch.chdir(tmp_path)
    check_run(config)
    assert dataset_of_checkpoint(config, "runs/x")[1].name == "digits"
    config.data.data_dir = f"{tmp_path}/data/"
    dataset_of_checkpoint(config, "runs/x")
    monkeypatch.chdir("/")
    config.data.data_dir = "data"
    with pytest.raises(ict_jax.ArgumentError, match="a place that was not named on this machine"):
        dataset_of_checkpoint(config, "runs/x")


def test_other_paths_of_a_model_are_not_read(stranger, tmp_path, capsys):
    workdir = stranger({}, init_from="/nowhere", diffusion_from="gs://no/where")
    arguments = (f"--checkpoint={workdir}", f"--out={tmp_path}/out", "--num_samples=300")
    assert evaluate("evaluate", *arguments) == 0
    assert "--data_dir" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scores.json", "real.png", "evaluation"])
def test_results_are_not_written_through_links(name, stranger, tmp_path, capsys):
    workdir = stranger({})
    os.symlink(tmp_path, workdir / name)
    assert evaluate("evaluate", f"--checkpoint={workdir}") == 1
    assert f"{name} is a link, through which results would be written" in capsys.readouterr().err
