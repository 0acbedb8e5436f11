"""The dry run: what it prints, without data, and operations counted against sums by hand."""

import re

import jax
import numpy as np
import pytest

import ict_jax
from configs import digits
from ict_jax.cli import common, train
from ict_jax.config.network import build_init_params
from ict_jax.run.preflight import dry_run
from tests.config.test_configs import load, resolved
from tests.helpers import ROOT

in_this_process = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@in_this_process
def test_dry_run_of_the_paper_needs_no_data(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["train", f"--config={ROOT}/configs/cifar10_ict.py", "--config.mesh.num_devices=1"]
    assert common.run(train.run, train.define_flags, train.__doc__, [*argv, "--dry_run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for text in (
        '"name": "tfds:cifar10"',
        "parameters 56,395,651",
        "state 0.840 GiB",
        "devices 1 cpu",
        "batch per device 1,024 images, 1,024 at a time",
        "images in all 409,600,000",
        "0 49,999 11 50,000 99,999 21 100,000 149,999 41",
        "300,000 349,999 641 350,000 399,999 1,281",
    ):
        assert text in out, text
    assert not list(tmp_path.iterdir())
    found = re.search(
        r"FLOP per image (\S+) in the training step; 4 forward passes are (\S+) ", out
    )
    step, four_forwards = map(float, found.groups())
    # EDM's DDPM++ of this size needs 21.2 billion multiply-adds forward; NCSN++ is close to it.
    assert four_forwards == pytest.approx(4 * 2 * 21.2e9, rel=0.01)
    assert step == pytest.approx(four_forwards, rel=0.01)


def test_dry_run_reads_the_data_where_it_must(capsys):
    config = digits.get_config("smoke")
    config.mesh.num_devices, config.training.accumulation_steps = 2, 4
    config.model.dropout = 0.0
    dry_run.dry_run(config)
    out = " ".join(capsys.readouterr().out.split())
    assert '"sigma_data": 0.846' in out and "batch per device 16 images, 4 at a time" in out
    step = float(re.search(r"per image (\S+) in", out)[1])
    total = float(re.search(r"FLOP in all (\S+)", out)[1])
    assert total == pytest.approx(step * 32 * 20, rel=1e-3)


def test_operations_of_a_dense_network_are_two_per_weight():
    config = resolved(digits.get_config())
    forward, step = dry_run.flops_per_image(config)
    shapes = jax.eval_shape(build_init_params(config), jax.random.key(0))
    weights = sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if path[-1].key == "kernel"
    )
    assert forward == 2 * weights
    assert step == pytest.approx(4 * forward, rel=0.05)  # nothing needs the input's gradient


def test_operations_of_scanned_and_accumulated_runs_are_counted_in_full():
    config = resolved(load(ROOT / "configs/cifar10_ict.py", "smoke"))
    config.model.num_res_blocks = 3
    expected = dry_run.flops_per_image(config)
    config.model.scan_blocks = True
    config.training.accumulation_steps = 4
    assert dry_run.flops_per_image(config) == expected
    config.model.num_res_blocks = 1
    assert np.all(np.array(dry_run.flops_per_image(config)) < 0.7 * np.array(expected))


def test_dry_run_refuses_mistakes(capsys):
    config = digits.get_config("smoke")
    config.total_steps = 2
    with pytest.raises(ict_jax.ArgumentError, match="total_steps=2 is fewer than the 3"):
        dry_run.dry_run(config)
    assert not capsys.readouterr().out
