"""Whole runs of the objectives beside iCT: teachers, resuming, sampling, what is refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import ict_jax
from configs import cd, ct, ect, edm, scd, sct
from ict_jax.checkpoints import interop, load_consistency_fn, load_ema
from ict_jax.checkpoints.integrity import read_items
from ict_jax.config.check import check_config
from ict_jax.config.objective import build_objective
from ict_jax.config.sampling import is_diffusion
from ict_jax.core.objectives import Draws
from ict_jax.run import loop
from ict_jax.runtime.preemption import Interrupted
from tests.helpers import command
from tests.run.test_loop import stop_at


def smoke(module, **changes):
    config = module.get_config("smoke")
    config.mesh.num_devices = 1
    config.evaluation.at_end = False
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    """Work directories of diffusion models, by the precondition."""
    directory, found = tmp_path_factory.mktemp("diffusion"), {}
    for name in ("edm", "trigflow"):
        config = smoke(edm)
        config.precondition.name = name
        loop.train(config, directory / name)
        found[name] = str(directory / name)
    return found


def saved(workdir):
    """All arrays of the last checkpoint, as they are stored."""
    items = read_items(
        workdir / "checkpoints" / "20",
        state=ocp.args.StandardRestore(),
        ema=ocp.args.StandardRestore(),
    )
    state = {k: v for k, v in items["state"].items() if k != "key"}
    return {"state": state, "ema": items["ema"]}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def resumes_bitwise(config, tmp_path, monkeypatch):
    """The last checkpoint of a run, which equals that of an interrupted one."""
    loop.train(config.copy_and_resolve_references(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Interrupted):
            loop.train(config.copy_and_resolve_references(), tmp_path / "parts")
    loop.train(config, tmp_path / "parts")
    whole = saved(tmp_path / "whole")
    assert_same(saved(tmp_path / "parts"), whole)
    return whole


@pytest.mark.slow
def test_ct_has_a_target_that_follows_and_resumes(tmp_path, monkeypatch):
    state = resumes_bitwise(smoke(ct), tmp_path, monkeypatch)["state"]
    assert set(state["teachers"]) == {"target"}
    differences = jax.tree.map(
        lambda a, b: abs(np.asarray(a) - b).max(), state["teachers"]["target"], state["params"]
    )
    assert 0 < max(jax.tree.leaves(differences)) < 0.1
    f, config = load_consistency_fn(tmp_path / "whole")
    assert config.objective.name == "ct"
    images = ict_jax.sample(
        lambda x, sigma: f(x, sigma, jax.numpy.zeros(len(x), int)),
        ict_jax.seed_keys(range(2)),
        tuple(config.image_shape),
    )
    assert np.isfinite(images).all()


STARTS = {
    "cd": (cd, "diffusion_from", "edm", {"denoiser"}),
    "ect": (ect, "init_from", "edm", set()),
    "sct": (sct, "init_from", "trigflow", set()),
    "scd": (scd, "diffusion_from", "trigflow", {"denoiser"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
def test_what_starts_from_a_diffusion_model(name, diffusion, tmp_path, monkeypatch):
    module, key, precondition, teachers = STARTS[name]
    config = smoke(module, **{key: diffusion[precondition]})
    whole = resumes_bitwise(config, tmp_path, monkeypatch)
    denoiser = load_ema(diffusion[precondition]).params
    assert set(whole["state"].get("teachers", ())) == teachers
    if teachers:
        kept = whole["state"]["teachers"]["denoiser"]
        assert_same({name: kept[name] for name in denoiser}, denoiser)
    own = set(whole["state"]["params"]) - set(denoiser)
    assert own == ({"objective"} if name in ("sct", "scd") else set())
    loaded = load_ema(tmp_path / "whole")
    assert set(loaded.params) == set(denoiser)
    path = interop.write_safetensors(loaded, tmp_path / "model.safetensors")
    assert_same(interop.read_weights(path, None).params, loaded.params)


@pytest.mark.slow
def test_a_diffusion_model_is_drawn_from_by_heun(diffusion):
    assert is_diffusion(load_ema(diffusion["trigflow"]).config)
    with pytest.raises(ict_jax.ArgumentError, match="holds a diffusion model"):
        load_consistency_fn(diffusion["trigflow"])
    grids = sorted(path.name for path in (Path(diffusion["edm"]) / "samples").iterdir())
    assert grids == ["heun_00000010.png", "heun_00000020.png"]


@pytest.mark.slow
def test_a_diffusion_model_is_scored_at_as_many_levels_as_asked_for(diffusion, tmp_path):
    options = (f"--checkpoint={diffusion['edm']}", "--num_samples=300")
    for steps in (3, 5):
        done = command("evaluate", *options, f"--steps={steps}", f"--out={tmp_path / str(steps)}")
        assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / n / "scores.json").read_text())["scores"] for n in ("3", "5")]
    assert found[0]["floor"] == found[1]["floor"] and found[0]["heun"] != found[1]["heun"]
    assert (tmp_path / "5" / "heun.png").is_file() and "one_step" not in found[0]
    done = command("evaluate", *options, "--second_sigma=1", f"--out={tmp_path / 'no'}")
    assert done.returncode != 0 and "which has no two-step samples" in done.stderr


@pytest.mark.slow
def test_what_cannot_be_distilled_is_refused(diffusion, tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match="distils a diffusion model, and none is given"):
        loop.train(smoke(cd), tmp_path / "a")
    with pytest.raises(ict_jax.ArgumentError, match="diffusion_from=/nowhere does not exist"):
        loop.train(smoke(cd, diffusion_from="/nowhere"), tmp_path / "b")
    with pytest.raises(ict_jax.ArgumentError, match="'edm', and a diffusion model with 'trigflow'"):
        loop.train(smoke(scd, diffusion_from=diffusion["edm"]), tmp_path / "c")
    other = smoke(cd, diffusion_from=diffusion["edm"])
    other.precondition.sigma_data = 0.5
    with pytest.raises(ict_jax.ArgumentError, match=r"precondition.sigma_data \(0.84.* -> 0.5\)"):
        loop.train(other, tmp_path / "e")
    with pytest.raises(ict_jax.ArgumentError, match=r"precondition.name \('edm' -> 'trigflow'\)"):
        loop.train(smoke(sct, init_from=diffusion["edm"]), tmp_path / "f")
    with pytest.raises(ict_jax.ArgumentError, match="'ect' distils nothing; to start from its"):
        loop.train(smoke(ect, diffusion_from=diffusion["edm"]), tmp_path / "g")
    wider = smoke(cd, diffusion_from=diffusion["edm"])
    wider.model.width = 32
    with pytest.raises(
        ict_jax.ArgumentError, match=r"diffusion_from=.* another network: model.width"
    ):
        loop.train(wider, tmp_path / "d")


@pytest.mark.parametrize(("metric", "of"), [("squared_l2", np.square), ("l1", np.abs)])
def test_metrics_by_name_are_means_over_an_example(metric, of):
    """As in the CM authors' code; RAdam's first updates feel the difference to a sum."""
    config = smoke(ct)
    config.objective.metric = metric
    x, noise = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 1))
    draws = Draws(noise, jnp.full(4, 0.1), jnp.full(4, 0.5))
    losses, _ = build_objective(config).loss(
        lambda x, sigma: 2 * x, x, draws, target=lambda x, sigma: x
    )
    expected = of(np.float64(x) + 0.9 * np.float64(noise)).mean((1, 2, 3))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    config = smoke(ect)
    config.precondition.name = "trigflow"
    message = "'ect' trains with config.precondition.name='zero_boundary', not 'trigflow'"
    with pytest.raises(ict_jax.ArgumentError, match=message):
        loop.train(config, tmp_path)
    config = sct.get_config()
    config.model.dtype = "bfloat16"
    with pytest.raises(ict_jax.ArgumentError, match="'sct' takes the network's derivative along"):
        check_config(config)
    for section, key in (("objective", "metric"), ("discretization", "curriculum")):
        config = smoke(ct)
        config[section][key] = "linf"
        with pytest.raises(ict_jax.ArgumentError, match=f"{section}.{key}='linf' is unknown; use"):
            loop.train(config, tmp_path)
