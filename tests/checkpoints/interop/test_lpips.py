"""LPIPS as the metric of runs: its files, what is refused, and a run that resumes without them."""

import functools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import ict_jax
from configs import ct
from ict_jax.checkpoints.interop import lpips
from ict_jax.checkpoints.interop.lpips import PLACES, read_lpips
from ict_jax.config.check import resolve
from ict_jax.config.network import build_bind
from ict_jax.config.training import (
    build_batches,
    build_dataset,
    build_init_state,
    build_objective,
    build_train_step,
)
from ict_jax.data import prepare
from ict_jax.models import LPIPS
from ict_jax.models.lpips import convolution_names
from ict_jax.run import loop
from ict_jax.runtime.preemption import Interrupted
from ict_jax.training import parallel
from tests.models.test_lpips import NARROW, PARAMS, SIZE
from tests.models.test_lpips import narrow as narrow
from tests.run.test_loop import stop_at
from tests.run.test_objectives import assert_same, saved, smoke
from tests.torch_files import zip_bytes
from tests.training.test_parallel import train


@pytest.fixture(autouse=True)
def narrow_files(narrow, monkeypatch):
    """Files of as narrow a network."""
    monkeypatch.setattr(lpips, "VGG16", NARROW)


def vgg_arrays():
    """The parameters as torchvision names them, with the layers of its classifier."""
    arrays = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for name, place in zip(convolution_names(), PLACES, strict=True):
        layer = PARAMS["vgg16"][name]
        arrays[f"features.{place}.weight"] = layer["kernel"].transpose(3, 2, 0, 1).copy()
        arrays[f"features.{place}.bias"] = layer["bias"]
    return arrays


def linear_arrays():
    return {
        f"lin{i}.model.1.weight": PARAMS[f"linear{i + 1}"][None, :, None, None] for i in range(5)
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both files, by the names that the config has for them."""
    directory = tmp_path_factory.mktemp("lpips")
    arrays = {"vgg_weights": vgg_arrays(), "linear_weights": linear_arrays()}
    for name, content in arrays.items():
        (directory / name).write_bytes(zip_bytes(content))
    return {name: str(directory / name) for name in arrays}


def test_the_files_are_read_as_they_are(files, tmp_path, capsys):
    assert_same(read_lpips(**files), PARAMS)
    assert capsys.readouterr().out.count("is not the published file") == 2
    backwards = tmp_path / "backwards"
    backwards.write_bytes(zip_bytes(dict(reversed(linear_arrays().items()))))
    assert_same(read_lpips(files["vgg_weights"], str(backwards)), PARAMS)


def test_files_exchanged_or_missing_are_refused(files, tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=r"linear_weights is of another network"):
        read_lpips(files["linear_weights"], files["vgg_weights"])
    with pytest.raises(ict_jax.ArgumentError, match=r"vgg_weights=/nowhere is no file; get vgg"):
        read_lpips("/nowhere", files["linear_weights"])
    with pytest.raises(ict_jax.ArgumentError, match=r"config.lpips.linear_weights is not given"):
        read_lpips(files["vgg_weights"], None)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """What a config's data section needs for 64 noisy images of 8x8 pixels in colour."""
    directory, rng = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    (directory / "images").mkdir()
    for i in range(64):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(directory / "images" / f"{i}.png")
    prepare.prepare_folder(
        directory / "images", out=directory / "out", name="coloured", image_size=8
    )
    return {"name": "tfds:coloured", "data_dir": str(directory / "out")}


def lpips_config(coloured, files, **section):
    config = smoke(ct)
    full = ct.get_config("lpips")
    config.objective.metric, config.lpips = full.objective.metric, full.lpips
    config.lpips.update({**files, "size": SIZE, **section})
    config.data.update(coloured)
    config.model.num_classes = 0
    return config


@pytest.mark.slow
def test_a_run_keeps_the_weights_and_resumes_without_their_files(
    coloured, files, tmp_path, monkeypatch
):
    loop.train(lpips_config(coloured, files), tmp_path / "whole")
    moved = {name: shutil.copy(path, tmp_path) for name, path in files.items()}
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Interrupted):
            loop.train(lpips_config(coloured, moved), tmp_path / "parts")
    for path in moved.values():
        Path(path).unlink()
    loop.train(lpips_config(coloured, dict.fromkeys(files)), tmp_path / "parts")
    whole = saved(tmp_path / "whole")
    assert_same(saved(tmp_path / "parts"), whole)
    assert set(whole["state"]["teachers"]) == {"target", "metric"}
    assert_same(whole["state"]["teachers"]["metric"], PARAMS)


@pytest.mark.slow
def test_its_parameters_are_cut_over_devices_and_agree(coloured, files):
    losses, _, x = train(1, config=lpips_config(coloured, files))
    config = lpips_config(coloured, files)
    config.training.accumulation_steps = 2
    others = train(4, 2, config=config)
    np.testing.assert_allclose(others[0], losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(others[2], x, atol=1e-4)


def test_the_loss_of_a_step_is_that_of_the_metric(coloured, files):
    """The step of a config, beside the objective as a library that is given the same metric."""
    config = resolve(lpips_config(coloured, files), build_dataset(lpips_config(coloured, files)))
    params = read_lpips(**files)
    metric = functools.partial(LPIPS(size=SIZE).apply, {"params": params})
    objective = build_objective(config, metric)
    state = jax.jit(build_init_state(config))()
    state.teachers["metric"] = params
    batches = build_batches(config, build_dataset(config))
    batch = jax.tree.map(jnp.asarray, batches(0, slice(config.batch_size)))
    config.training.flip = False
    _, metrics = jax.jit(build_train_step(config))(state, batch)
    x = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    keys = jax.random.split(jax.random.fold_in(state.key, 0), 3)
    dropout = jax.random.fold_in(keys[2], 0)

    @jax.jit
    def losses(params):
        f = build_bind(config)(params, batch["label"], dropout)
        return objective.loss(f, x, objective.draw(keys[1], x.shape, 0), target=f)[0]

    np.testing.assert_allclose(metrics["loss"].compute(), losses(state.params).mean(), rtol=1e-5)


def test_mistakes_are_told_before_anything_is_compiled(coloured, files, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "init_on_mesh", None)
    exchanged = dict(zip(files, reversed(files.values()), strict=True))
    with pytest.raises(ict_jax.ArgumentError, match=r"is of another network"):
        loop.train(lpips_config(coloured, exchanged), tmp_path / "exchanged")
    grey = lpips_config(coloured, files)
    grey.data = ct.get_config("smoke").data
    with pytest.raises(ict_jax.ArgumentError, match=r"images of 3 channels, and these have shape"):
        loop.train(grey, tmp_path / "a")
    without = lpips_config(coloured, {"vgg_weights": None, "linear_weights": None})
    with pytest.raises(ict_jax.ArgumentError, match=r"vgg_weights is not given; get vgg16-"):
        loop.train(without, tmp_path / "b")
    for section, message in [
        ({"size": 9}, "at least 16"),
        ({"pooling": "x"}, "'max' or 'average'"),
    ]:
        with pytest.raises(ict_jax.ArgumentError, match=f"config.lpips: .*{message}"):
            loop.train(lpips_config(coloured, files, **section), tmp_path / "c")
    bare, other = smoke(ct), lpips_config(coloured, files)
    bare.objective.metric, other.objective.metric = "lpips", "squared_l2"
    for config in (bare, other):
        with pytest.raises(ict_jax.ArgumentError, match=r"the section config.lpips go together"):
            loop.train(config, tmp_path / "d")
    half = lpips_config(coloured, files)
    del half.lpips.linear_weights
    with pytest.raises(ict_jax.ArgumentError, match=r"linear_weights is not given; get weights"):
        loop.train(half, tmp_path / "e")
