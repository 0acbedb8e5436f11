"""Names of devices, what a report says, and programs compiled for TPUs that are not there."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from importlib import util

import jax
import pytest

import ict_jax
from configs import digits
from ict_jax.config.check import check_run
from ict_jax.config.network import build_init_params
from ict_jax.run.preflight.collectives import Collective, collectives
from ict_jax.run.preflight.compile import _compile, preflight
from ict_jax.run.preflight.result import Report
from ict_jax.run.preflight.suggestions import suggestions
from ict_jax.run.preflight.text import GIB, as_text, refusal
from ict_jax.run.preflight.topology import Topology, enlarged, find_topology
from ict_jax.runtime.chips import CHIPS, find_chip
from tests.helpers import ROOT

needs_libtpu = pytest.mark.skipif(
    util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install -e '.[tpu]'"
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v4", "v4"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_chips_by_what_jax_calls_them(kind, name):
    assert find_chip(kind) == CHIPS[name]


def test_unknown_devices_have_no_peak():
    for kind in ("cpu", "NVIDIA H100 PCIe", "NVIDIA H200 NVL"):
        assert find_chip(kind) is None


@pytest.mark.parametrize("name", ["v5e-17", "v4-4", "v9-8", "v5e", "v5e-16x2", "h100-12", "h100-0"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ict_jax.ArgumentError, match=f"--topology={name} "):
        find_topology(name)


def test_collectives_are_read_from_a_program():
    program = """
      %a = f32[4,8]{1,0} all-gather(%x), dimensions={0}
      %b = (f32[10]{0}, bf16[3,2]{1,0}) all-reduce(%y, %z), to_apply=%sum
      %c = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), dimensions={0}
      %d = f32[32]{0} all-gather-done(%c)
      %e = s32[] add(%one, %two)
    """
    assert collectives(program) == [
        Collective("all-gather", frozenset({"f32"}), 128),
        Collective("all-reduce", frozenset({"f32", "bf16"}), 52),
        Collective("all-gather", frozenset({"f32"}), 128),
    ]


REPORT = Report(
    topology="v5e-16",
    num_slices=2,
    devices=32,
    chips=32,
    hosts=8,
    mesh={"data": 32, "fsdp": 1},
    batch_size=1024,
    images_per_device=32,
    accumulation_steps=1,
    parameters=10**9,
    parameter_bytes=8 * 10**9,
    optimizer_bytes=8 * 10**9,
    peak_bytes=40 * 10**9,
    memory_bytes=30 * 10**9,
    fits=False,
    flops_per_step=32 * 10**12,
    compiler_flops_per_step=31 * 10**12,
    compiler_bytes_per_step=20 * 10**9,
    scanned=False,
    remat=False,
    collectives={"all-reduce": 4 * 10**9},
    compile_secs=61.0,
    level="quick",
    total_images=1024 * 1000,
    flops_per_sec=10**12,
    bytes_per_sec=10**10,
    price_per_chip_hour=2.0,
    refusal=None,
)


def test_times_and_cost():
    assert REPORT.roofline_secs_per_step == 2.0  # by bytes; by operations it would be 1
    assert dataclasses.replace(REPORT, scanned=True).roofline_secs_per_step == 1.0
    assert REPORT.secs_per_step(0.4) == pytest.approx(2.5)
    text = as_text(REPORT)
    hours = 1000 * 2.5 / 3600
    assert f"410 images/s, {hours:.1f} h for the whole run, {hours * 32 * 2:,.0f} for it" in text
    assert "32 of 2 x v5e-16: 32 chips, 8 host(s)" in text and "DOES NOT FIT" in text
    assert "compiled in" in text and "1m01s" in text


def test_what_would_fit_is_reckoned_from_the_bytes():
    """16 GB are held, 4 the gradient, so 20 of activations: halved they fit 28.5."""
    found = suggestions(dataclasses.replace(REPORT, memory_bytes=32 * 10**9))
    assert "training.accumulation_steps=2 (16 images at a time)" in found
    assert "--topology=v5e-32 (16 images on each device)" in found
    assert found[-3].startswith("model.remat=True")
    assert found[-2:] == ["a smaller batch_size", "chips with more memory"]
    halved = dataclasses.replace(REPORT, memory_bytes=38 * 10**9)
    assert "mesh.fsdp=2" in " ".join(suggestions(dataclasses.replace(halved, memory_bytes=39e9)))
    sentence = refusal(REPORT)
    assert f"{40e9 / GIB:.2f} GiB" in sentence and "training.accumulation_steps=4" in sentence


def test_only_what_the_config_takes_and_what_helps_is_suggested():
    assert "remat" not in " ".join(suggestions(dataclasses.replace(REPORT, remat=None)))
    assert "remat" not in " ".join(suggestions(dataclasses.replace(REPORT, remat=True)))
    too_large = dataclasses.replace(REPORT, memory_bytes=20 * 10**9)  # of state and gradient
    assert suggestions(too_large)[-2:] == [
        "model.remat=True (recomputes the inside of the blocks; try it)",
        "chips with more memory",
    ]
    odd = dataclasses.replace(
        REPORT, topology="v5e-256", images_per_device=3, memory_bytes=38 * 10**9
    )
    assert "--topology" not in " ".join(suggestions(odd))  # 768 chips are not offered


@pytest.mark.parametrize(
    ("name", "factor", "expected"),
    [
        ("v5litepod-8", 2, "v5e-16"),
        ("v5e-8", 3, None),
        ("v4-8", 4, "v4-32"),
        ("v4-2048", 2, "v4-4096"),
        ("h100-4", 2, "h100-8"),
        ("h100-8", 3, "h100-24"),
        ("h100-2", 6, None),
        ("local", 2, None),
    ],
)
def test_larger_topologies(name, factor, expected):
    assert enlarged(name, factor) == expected


class Refused:
    """Stands for what the compiler cannot fit."""

    def __init__(self, size):
        self.size = size

    def compile(self):
        raise RuntimeError(
            "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries "
            f"({self.size}) exceeds available HBM (15.75G)."
        )


@pytest.mark.parametrize(("size", "expected"), [("36.39T", 36.39 * 2**40), ("35.00G", 35 * 2**30)])
def test_what_the_compiler_asked_for(size, expected):
    program, refusal = _compile(Refused(size))
    assert program is None and refusal.required == expected


def test_a_refusal_without_a_number():
    sizeless = dataclasses.replace(REPORT, peak_bytes=None, refusal="RESOURCE_EXHAUSTED: too much")
    assert refusal(sizeless) == (
        "the compiler refused the training step for v5e-16: RESOURCE_EXHAUSTED: too much"
    )


def smoke_report(memory_bytes, told, **options):
    config, mesh, _ = check_run(digits.get_config("smoke"), jax.devices())
    chip = CHIPS["v5e"]._replace(memory_bytes=memory_bytes)
    topology = Topology("v5e-4", jax.devices(), chip)

    def progress(what):
        told.append(what)
        return contextlib.nullcontext()

    return preflight(config, mesh, topology, progress=progress, **options)


def test_nothing_is_refused_within_the_margin_without_a_check():
    """What the quick level refuses by less than 15% is compiled as for a run."""
    peak = smoke_report(2**30, []).peak_bytes
    for share, level in ((1.01, "quick"), (0.9, "default"), (0.8, "quick")):
        told = []
        report = smoke_report(share * peak, told)
        assert (report.level, report.fits) == (level, report.peak_bytes <= share * peak)
        assert ("optimised as for a run" in told[-1]) == (level == "default")


def test_devices_that_take_no_part_are_not_counted():
    config = digits.get_config("smoke")
    config.mesh.num_devices = 2
    config, mesh, _ = check_run(config, jax.devices())
    report = preflight(config, mesh, find_topology("local"))
    assert len(jax.devices()) > 2 and report.devices == 2
    assert report.images_per_device == config.batch_size // 2


@pytest.mark.parametrize("price", [float("nan"), -1.0, 0.0, float("inf")])
def test_prices_are_above_zero(price):
    with pytest.raises(ict_jax.ArgumentError, match=f"--price_per_chip_hour={price} must be"):
        smoke_report(2**30, [], price_per_chip_hour=price)


def test_at_least_one_slice():
    with pytest.raises(ict_jax.ArgumentError, match="--num_slices=0 must be at least 1"):
        find_topology("v5e-8", 0)


def test_a_run_on_the_devices_at_hand():
    config = digits.get_config("smoke")
    config.mesh.fsdp = 2
    config, mesh, _ = check_run(config, jax.devices())
    report = preflight(config, mesh, find_topology("local"))
    init = build_init_params(config)
    sizes = [leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))]
    assert report.parameters == sum(sizes)
    # Parameters and average, mostly cut in two.
    assert 0.5 < report.parameter_bytes / (2 * 4 * sum(sizes)) < 0.52
    assert report.fits is None and report.peak_bytes > report.parameter_bytes
    assert report.collectives["all-gather"] > 0.9 * 4 * sum(sizes)
    assert report.compiler_flops_per_step == pytest.approx(report.flops_per_step, rel=0.5)
    assert "the peak of these devices is not known" in as_text(report)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ict_jax.cli.preflight", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_mistakes_are_told_at_once():
    done = command("--config=configs/digits.py:smoke", "--topology=v5e-17")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --topology=v5e-17 is not known; use local, v3-2 to")
    done = command("--config=configs/digits.py")
    assert done.stderr.startswith("error: --topology is missing")


SLICES = {
    ("v5e-1", 1): (1, 1),
    ("v5e-8", 1): (8, 1),
    ("v5e-16", 1): (16, 4),
    ("v5litepod-16", 1): (16, 4),
    ("v4-8", 1): (4, 1),
    ("v5p-64", 1): (32, 8),
    ("v6e-256", 1): (256, 64),
    ("v3-8", 1): (8, 1),
    ("v5e-256", 2): (512, 128),
}
"""Devices and hosts by the name of a slice and the number of slices."""


@needs_libtpu
@pytest.mark.slow
def test_slices_by_their_usual_names():
    script = f"""
from ict_jax.cli import preflight
preflight._compile_without_devices()
from ict_jax.run.preflight.topology import find_topology
for name, slices in {list(SLICES)}:
    found = find_topology(name, slices)
    print(len(found.devices), found.num_hosts)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert dict(zip(SLICES, told, strict=True)) == SLICES


@needs_libtpu
@pytest.mark.slow
def test_a_convolutional_network_for_a_tpu_slice():
    """A U-Net of one block, on 16 chips, its state cut over four; too many images do not fit."""
    small = [
        "--config=configs/cifar10_ict.py",
        "--topology=v5e-16",
        "--config.model.num_res_blocks=1",
        "--config.model.channel_mult=(1,)",
        "--config.model.attention_resolutions=()",
    ]
    done = command(*small, "--config.mesh.fsdp=4", "--price_per_chip_hour=1.2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["fits"] and report["devices"] == 16 and report["hosts"] == 4
    parameters = 4 * report["parameters"]
    assert report["parameter_bytes"] < 0.3 * 2 * parameters
    assert report["collectives"]["all-gather"] > 0.9 * parameters
    assert set(report["collectives"]) <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert report["compiler_flops_per_step"] == pytest.approx(report["flops_per_step"], rel=0.2)
    done = command(*small, "--config.batch_size=65536")
    assert done.returncode == 4, done.stderr
    assert "does not fit: the training step needs" in done.stderr
    assert "training.accumulation_steps=" in done.stderr
