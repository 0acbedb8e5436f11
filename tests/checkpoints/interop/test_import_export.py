"""Weights in and out: published outputs through a checkpoint, bitwise round trips, bad files."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from etils import epath
from ml_collections import ConfigDict

import ict_jax
from configs import cifar10_ict, digits, imagenet64_ict, openai_cifar10
from ict_jax.checkpoints import Loaded, interop, load_consistency_fn, load_ema
from ict_jax.checkpoints.interop.arrays import export_arrays
from ict_jax.checkpoints.interop.diffusers import ADM_IS
from ict_jax.checkpoints.interop.name_maps import jcm_layout
from ict_jax.checkpoints.weights import write_ema
from ict_jax.cli import common, evaluate, export_weights, import_weights, sample
from ict_jax.config.check import check_config, resolve
from ict_jax.config.network import MODELS, build_init_params, build_model
from ict_jax.config.sampling import karras_levels
from ict_jax.core.errors import Diverged, NotSaved
from ict_jax.run import loop
from tests import golden
from tests.helpers import command, full_disk, smoke_config

in_this_process = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def call(command, *arguments):
    argv = ["command", *map(str, arguments)]
    return common.run(command.run, command.define_flags, command.__doc__, argv)


def tiny_cifar10(form="full", **model):
    """The config of the small golden network, as for the released ones but for its sizes."""
    config = openai_cifar10.get_config(form)
    config.image_shape = (16, 16, 3)
    sizes = golden.fields(golden.ncsnpp().model)
    config.model.update({key: sizes[key] for key in config.model if key in sizes} | model)
    return config


def as_flags(config):
    """The overrides that turn configs/openai_cifar10.py into that config."""
    model = {key: value for key, value in config.model.items() if key in SIZES}
    flags = [f"--config.model.{key}={value}" for key, value in model.items()]
    return [*flags, f"--config.image_shape={tuple(config.image_shape)}"]


SIZES = ("channels", "channel_mult", "num_res_blocks", "attention_resolutions", "fourier_scale")


@in_this_process
def test_openai_checkpoint_gives_the_published_outputs(tmp_path, capsys):
    """Its averaged weights: the others are 0.9 times as large."""
    _, _, data = golden.ncsnpp()
    code = call(
        import_weights,
        "--config=configs/openai_cifar10.py",
        *as_flags(tiny_cifar10()),
        f"--source={golden.MSGPACK}",
        f"--out={tmp_path}/run",
    )
    assert code == 0, capsys.readouterr()
    assert "parameters of a consistency model (16, 16, 3)" in capsys.readouterr().out
    f, config = load_consistency_fn(tmp_path / "run")
    with jax.default_matmul_precision("highest"):
        out = jax.jit(f)(jnp.asarray(data["x"]), jnp.asarray(data["sigma"]))
    np.testing.assert_allclose(out, data["D"], atol=2e-5)
    assert config.model.num_res_blocks == 2 and config.init_from is None
    # It has no training state, and is neither overwritten nor called damaged.
    with pytest.raises(
        ict_jax.ArgumentError, match=r"has no state: if it is of imported .* --init_from"
    ):
        loop.train(smoke_config(), tmp_path / "run")


def import_smallest(directory, form, *flags):
    """Imports random weights of a network of one block, which compiles in a moment."""
    sizes = {"channels": 8, "channel_mult": (1,), "attention_resolutions": (16,)}
    config = tiny_cifar10(form, num_res_blocks=1, **sizes)
    params = random_loaded(config).params
    flat = export_arrays(params, jcm_layout(build_model(config), (16, 16, 3)))
    tree = flax.traverse_util.unflatten_dict(flat, sep="/")
    (directory / "file").write_bytes(flax.serialization.msgpack_serialize({"params_ema": tree}))
    return call(
        import_weights,
        f"--config=configs/openai_cifar10.py:{form}",
        *as_flags(config),
        f"--source={directory}/file",
        f"--out={directory}/run",
        *flags,
    )


@in_this_process
def test_an_import_is_sampled_in_one_step_and_in_two(tmp_path):
    assert import_smallest(tmp_path, "full") == 0
    assert call(sample, f"--checkpoint={tmp_path}/run", "--seeds=0-3", f"--out={tmp_path}/s") == 0
    images = np.load(tmp_path / "s" / "samples.npz")["images"]
    assert images.shape == (4, 16, 16, 3) and images.std() > 1
    arguments = [f"--checkpoint={tmp_path}/run", "--seeds=0-3", f"--out={tmp_path}/s"]
    assert call(sample, *arguments, "--steps=2") == 0
    saved = np.load(tmp_path / "s" / "samples.npz")
    np.testing.assert_array_equal(saved["sigmas"], ict_jax.karras_sigmas(3)[:0:-1])
    assert (saved["images"] != images).any()


@pytest.mark.slow
@in_this_process
def test_diffusion_network_is_sampled_by_heun(tmp_path, capsys):
    assert import_smallest(tmp_path, "edm") == 0
    assert "parameters of a diffusion model" in capsys.readouterr().out
    arguments = [f"--checkpoint={tmp_path}/run", "--seeds=0-2", f"--out={tmp_path}/s"]
    assert call(sample, *arguments, "--steps=3") == 0
    saved = np.load(tmp_path / "s" / "samples.npz")
    sigmas = ict_jax.karras_sigmas(3)[::-1]
    np.testing.assert_array_equal(saved["sigmas"], sigmas)
    loaded = load_ema(tmp_path / "run")
    model = build_model(loaded.config)
    denoiser = ict_jax.as_denoiser(lambda x, c: model.apply({"params": loaded.params}, x, c))
    heun = jax.jit(lambda keys: ict_jax.heun_sample(denoiser, keys, (16, 16, 3), sigmas))
    expected = heun(ict_jax.seed_keys(range(3)))
    difference = np.abs((np.asarray(expected) + 1) * 127.5 - saved["images"])
    assert difference.max() < 1.5 and saved["images"].std() > 1
    assert karras_levels(loaded.config, None) == tuple(ict_jax.karras_sigmas(40)[::-1])
    with pytest.raises(ict_jax.ArgumentError, match="holds a diffusion model"):
        load_consistency_fn(tmp_path / "run")


@in_this_process
def test_scoring_an_import_needs_its_data(tmp_path, capsys, user_errors):
    assert import_smallest(tmp_path, "full", "--config.data.name=digits") == 0
    assert call(evaluate, f"--checkpoint={tmp_path}/run") == common.EXIT_ERROR
    assert "images of digits have shape" in capsys.readouterr().err


def random_loaded(config):
    """A checkpoint of random parameters of the config's network."""
    config = resolve(config, None)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.1 * rng.standard_normal(leaf.shape).astype(np.float32),
        jax.eval_shape(build_init_params(config), jax.random.key(0)),
    )
    return Loaded(params, config, 123)


def small(name):
    """A small config of each network."""
    make = {"dense": digits, "adm": imagenet64_ict}.get(name, cifar10_ict)
    config = make.get_config("smoke")
    config.image_shape, config.precondition.sigma_data = (8, 8, 1), 0.8
    if name == "ddpmpp":
        del config.model.resample_kernel, config.model.residual_input, config.model.embedding
    config.model.name = name
    return config


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert a.step == b.step
    assert json.loads(a.config.to_json()) == json.loads(b.config.to_json())


@in_this_process
@pytest.mark.parametrize("name", MODELS)
def test_safetensors_round_trip_is_bitwise(name, tmp_path):
    loaded = random_loaded(small(name))
    write_ema(tmp_path / "a", *loaded)
    assert 0 == call(
        export_weights, f"--checkpoint={tmp_path}/a", f"--out={tmp_path}/model.safetensors"
    )
    assert 0 == call(
        import_weights, f"--source={tmp_path}/model.safetensors", f"--out={tmp_path}/b"
    )
    assert_equal(load_ema(tmp_path / "b"), loaded)


def test_export_can_be_read_without_this_package(tmp_path):
    loaded = random_loaded(small("ncsnpp"))
    path = interop.write_safetensors(loaded, tmp_path / "model.safetensors")
    arrays = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(arrays["conv_in.kernel"], loaded.params["conv_in"]["kernel"])
    with safetensors.safe_open(path, "numpy") as file:
        header = file.metadata()
    assert header["format"] == "ict_jax" and header["step"] == "123"
    assert json.loads(header["config"])["model"]["fourier_scale"] == 0.02


def altered_checkpoint(tmp_path, change):
    tree = flax.serialization.msgpack_restore(golden.MSGPACK.read_bytes())
    change(tree["params_ema"])
    path = tmp_path / "altered"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def test_bad_openai_checkpoints_are_refused(tmp_path, user_errors):
    whole = golden.MSGPACK.read_bytes()
    tree = flax.serialization.msgpack_restore(whole)
    files = {
        "step": (flax.serialization.msgpack_serialize(tree | {"step": "abc"}), "as weights"),
        "steps": (flax.serialization.msgpack_serialize(tree | {"step": -5}), "has the step -5"),
        "list": (flax.serialization.msgpack_serialize({"params_ema": {"a": [1, 2]}}), "as weights"),
        "cut": (whole[: len(whole) // 2], "cannot be read as a Flax msgpack file"),
        "empty": (b"", "is empty; get it again"),
        "text": (b"not found", "cannot be read as|holds no tree"),
        "zeros": (bytes(5000), "cannot be read as|holds no tree"),
        "other": (flax.serialization.msgpack_serialize({"a": np.ones(3)}), "no averaged param"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ict_jax.ArgumentError, match=message):
            interop.read_weights(tmp_path / name, tiny_cifar10())
    with pytest.raises(ict_jax.ArgumentError, match="does not exist; give the file or directory"):
        interop.read_weights(tmp_path / "none", tiny_cifar10())
    with pytest.raises(ict_jax.ArgumentError, match="a config is needed"):
        interop.read_weights(golden.MSGPACK, None)


def replace_first_kernel(tree, value):
    tree["Conv_0"]["kernel"] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("Conv_0"), r"2 arrays are missing, first \['Conv_0/bias', "),
        (lambda tree: tree.update(more=np.ones(2)), r"1 are left over, first \['more'\]"),
        (
            lambda tree: replace_first_kernel(tree, np.ones((3, 3, 4, 8), np.float32)),
            r"Conv_0/kernel in .* has shape \(3, 3, 4, 8\) and type float32, expected floats for",
        ),
        (
            lambda tree: replace_first_kernel(tree, np.ones((3, 3, 3, 8), np.int32)),
            "Conv_0/kernel in .* type int32, expected floats",
        ),
    ],
)
def test_other_arrays_than_the_networks_are_named(tmp_path, change, message):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        interop.read_weights(altered_checkpoint(tmp_path, change), tiny_cifar10())


@pytest.mark.parametrize("value", [np.nan, 1e300])  # infinite in float32
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    kernel = np.full((3, 3, 3, 8), value)
    source = altered_checkpoint(tmp_path, lambda tree: replace_first_kernel(tree, kernel))
    with pytest.raises(
        Diverged, match=r"Conv_0/kernel in .* NaN or infinite; choose other weights"
    ):
        interop.read_weights(source, tiny_cifar10())
    loaded = random_loaded(small("dense"))
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), loaded.params)
    with pytest.raises(Diverged, match="values that are NaN or infinite"):
        interop.write_safetensors(loaded._replace(params=params), tmp_path / "a.safetensors")


def test_weights_of_another_size_or_network_are_refused():
    with pytest.raises(ict_jax.ArgumentError, match="are left over, first"):
        interop.read_weights(golden.MSGPACK, tiny_cifar10(num_res_blocks=1))
    with pytest.raises(ict_jax.ArgumentError, match=r"has shape .* expected floats for"):
        interop.read_weights(golden.MSGPACK, tiny_cifar10(channels=16))
    with pytest.raises(ict_jax.ArgumentError, match="'adm' is another network than 'ncsnpp'"):
        interop.read_weights(golden.MSGPACK, imagenet64_ict.get_config())
    ddpmpp = tiny_cifar10()
    ddpmpp.model.name = "ddpmpp"
    with pytest.raises(ict_jax.ArgumentError, match="'ddpmpp' is another network than 'ncsnpp'"):
        interop.read_weights(golden.MSGPACK, ddpmpp)
    with pytest.raises(ict_jax.ArgumentError, match="must be stated; set them"):
        interop.read_weights(golden.MSGPACK, cifar10_ict.get_config("smoke"))


BROKEN = [
    ("precondition", None, "cannot be read as weights"),
    ("precondition", {"name": "edm", "sigma_data": -1.0}, "sigma_data=-1.0 must be positive"),
    ("discretization", {}, "cannot be read as weights"),
    ("discretization", {"sigma_min": 2.0, "sigma_max": 1.0, "rho": 7.0}, "sigma_min=2.0"),
    ("discretization", {"sigma_min": 0.1, "sigma_max": "x", "rho": 7.0}, "no network|as weights"),
    ("image_shape", [], "has shape|cannot be read|describes no network"),
    ("image_shape", [7, 7, 1], "has shape"),
    ("model", {"name": "adm", "head_channels": 0}, "cannot be read|describes no network"),
]


def broken_header(header, section, value):
    config = json.loads(header["config"])
    config[section] = value
    if value is None:
        del config[section]
    return header | {"config": json.dumps(config)}


def test_bad_safetensors_are_refused(tmp_path):
    path = interop.write_safetensors(random_loaded(small("dense")), tmp_path / "a.safetensors")
    whole, (arrays, header) = path.read_bytes(), interop.formats.read_safetensors(path)
    del header["ict_jax_sha256"]
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ict_jax.ArgumentError, match=r"is empty|cannot be read as a safetensors"
        ):
            interop.read_weights(path, None)

    def written(arrays, header):
        safetensors.numpy.save_file(arrays, path, metadata=header)
        return interop.read_weights(path, None)

    first = min(arrays)
    cases = [
        (arrays, {}, "has the format None in its header, expected 'ict_jax'"),
        (arrays, header | {"config": "{"}, "header that describes no network"),
        (arrays, header | {"config": "{}"}, "header that describes no network"),
        (arrays, header | {"step": "many"}, "header that describes no network"),
        ({k: v for k, v in arrays.items() if k != first}, header, "1 arrays are missing"),
        (arrays | {"more": np.ones(2)}, header, r"1 are left over, first \['more'\]"),
        (arrays, header | {"step": "-5"}, "has the step -5"),
        ({k: v.astype(np.float16) for k, v in arrays.items()}, header, "and type float16"),
        *((arrays, broken_header(header, *change), message) for *change, message in BROKEN),
        (arrays | {first: np.ones((1, 1))}, header, r"has shape \(1, 1\) and type float32"),
    ]
    for changed, text, message in cases:
        with pytest.raises(ict_jax.ArgumentError, match=message):
            written(changed, text)
    assert written(arrays, header).step == 123


def test_an_import_overwrites_nothing(tmp_path):
    loaded = random_loaded(small("dense"))
    write_ema(tmp_path, *loaded)
    with pytest.raises(ict_jax.ArgumentError, match=r"already holds the checkpoints \['123'\]"):
        write_ema(tmp_path, *loaded)
    with pytest.raises(ict_jax.ArgumentError, match=r"name ends in \.safetensors"):
        interop.write_safetensors(loaded, tmp_path / "model.bin")


def flipped(content, places):
    """Copies of a content with one bit changed."""
    for place in places:
        yield content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def test_a_changed_bit_of_an_export_is_found(tmp_path):
    loaded = random_loaded(small("dense"))
    path = interop.write_safetensors(loaded, tmp_path / "a.safetensors")
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = np.random.default_rng(0).integers(header, len(whole), 20)
    refused = 0
    for content in flipped(whole, [*range(0, header, 7), *places, len(whole) - 1]):
        path.write_bytes(content)
        try:
            assert_equal(interop.read_weights(path, None), loaded)
        except (ict_jax.ArgumentError, Diverged):
            refused += 1
    assert refused > (header - 8) / 7 - 2  # but for spaces at the end of the header


def test_a_changed_bit_of_a_diffusers_export_is_found(tmp_path):
    interop.write_diffusers(exportable_adm(), tmp_path)
    for name in ("unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
        file = tmp_path / name
        whole = file.read_bytes()
        changed = whole.replace(b'"sigma_max": 80', b'"sigma_max": 81')
        file.write_bytes(whole[:-2] + b"\1" + whole[-1:] if changed == whole else changed)
        with pytest.raises(ict_jax.ArgumentError, match=r"is not what was exported: .* again\.$"):
            interop.read_weights(tmp_path, small("adm"))
        file.write_bytes(whole)
    interop.read_weights(tmp_path, small("adm"))


def test_an_export_without_a_fingerprint_is_read_and_this_is_said(tmp_path, capsys):
    path = interop.write_safetensors(random_loaded(small("dense")), tmp_path / "a.safetensors")
    arrays, header = interop.formats.read_safetensors(path)
    del header["ict_jax_sha256"]
    safetensors.numpy.save_file(arrays, path, header)
    assert interop.read_weights(path, None).step == 123
    assert "has no ict_jax_sha256: it could not be verified" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.safetensors", "a"])
def test_exports_are_the_same_bytes_with_the_users_mode(tmp_path, name):
    write = interop.write_safetensors if "." in name else interop.write_diffusers
    before = os.umask(0o027)
    try:
        files = [written(write(exportable_adm(), tmp_path / str(i) / name)) for i in range(5)]
    finally:
        os.umask(before)
    assert all(each == files[0] for each in files)
    assert {mode for mode, _ in files[0].values()} == {0o640}


def written(path):
    """Mode and content of each file."""
    files = [path] if path.is_file() else [p for p in Path(path).rglob("*") if p.is_file()]
    return {p.name: (os.stat(p).st_mode & 0o777, p.read_bytes()) for p in files}


def test_the_digest_is_printed_and_compared(tmp_path, capsys):
    digest = hashlib.sha256(golden.MSGPACK.read_bytes()).hexdigest()
    interop.read_weights(golden.MSGPACK, tiny_cifar10(), sha256=digest.upper())
    assert f"SHA-256 {digest}" in capsys.readouterr().out
    for wrong, message in (("0" * 64, f"has the SHA-256 {digest}, expected 000"), ("ab", "64 hex")):
        with pytest.raises(ict_jax.ArgumentError, match=message):
            interop.read_weights(golden.MSGPACK, tiny_cifar10(), sha256=wrong)
    with pytest.raises(ict_jax.ArgumentError, match="--source=gs://b/w is in a bucket, expected a"):
        interop.read_weights("gs://b/w", None)


def nan_in(tree):
    """The tree with one number of its last array not a number."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[-1] = np.array(leaves[-1])
    leaves[-1].flat[-1] = np.nan
    return jax.tree.unflatten(structure, leaves)


@in_this_process
def test_weights_that_are_not_finite_end_with_the_code_of_training(tmp_path, capsys):
    loaded = exportable_adm()
    broken = loaded._replace(params=nan_in(loaded.params))
    write_ema(tmp_path / "run", *broken)
    for name, *more in (("a.safetensors",), ("a", "--format=diffusers")):
        arguments = (f"--checkpoint={tmp_path}/run", f"--out={tmp_path}/{name}", *more)
        assert call(export_weights, *arguments) == common.EXIT_DIVERGED
        assert "checkpoints/123 has values that are NaN or infinite" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
    sources = {
        "a": altered_checkpoint(tmp_path, lambda tree: tree.update(nan_in(tree))),
        "b.safetensors": interop.write_safetensors(loaded, tmp_path / "b.safetensors"),
    }
    arrays, header = interop.formats.read_safetensors(sources["b.safetensors"])
    del header["ict_jax_sha256"]
    content = interop.formats.safetensors_bytes(nan_in(arrays), header)
    sources["b.safetensors"].write_bytes(content)
    for name, source in sources.items():
        config = ["--config=configs/openai_cifar10.py", *as_flags(tiny_cifar10())]
        arguments = [*config[: None if name == "a" else 0], f"--source={source}"]
        code = call(import_weights, *arguments, f"--out={tmp_path}/c")
        said = capsys.readouterr().err
        assert code == common.EXIT_DIVERGED, said
        assert said.startswith("diverged: ") and "has values that are NaN or infinite" in said
        assert not (tmp_path / "c").exists()


def test_a_killed_import_can_be_run_again(tmp_path):
    half = tmp_path / "checkpoints" / "123.orbax-checkpoint-tmp-7"
    half.mkdir(parents=True)
    (half / "ema").write_text("cut off")
    (half.parent / ".write_test_0").write_text("")
    loaded = random_loaded(small("dense"))
    write_ema(epath.Path(tmp_path), *loaded)
    assert_equal(load_ema(tmp_path), loaded)
    assert not half.exists()


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path):
    loaded = random_loaded(small("dense"))
    source = interop.write_safetensors(loaded, tmp_path / "a.safetensors")
    with full_disk(tmp_path / "disk", kilobytes=200) as disk:
        with pytest.raises(
            NotSaved, match=r"a.safetensors cannot be written \(No space left.*room"
        ):
            interop.write_safetensors(loaded, disk / "a.safetensors")
        with pytest.raises(NotSaved, match=r"disk/a cannot be written \(No space left.*make room"):
            interop.write_diffusers(exportable_adm(), disk / "a")
        assert not list(disk.iterdir())
        result = command("import_weights", f"--source={source}", f"--out={disk}")
        assert result.returncode == common.EXIT_NOT_SAVED, result.stderr
        assert "not saved: " in result.stderr and "No space left" in result.stderr
        # TensorStore's threads may print of their own accord that an event loop is closed.
        assert "ict_jax/cli" not in result.stderr
        assert not list((disk / "checkpoints").iterdir())


def exportable_adm():
    loaded = random_loaded(small("adm"))
    loaded.config.model.c_noise_multiplier = 1000.0
    return loaded


def test_diffusers_directory_round_trip_is_bitwise(tmp_path):
    loaded = exportable_adm()
    loaded.config.discretization.update({"sigma_min": 0.01, "sigma_max": 40.0, "rho": 5.0})
    loaded.config.precondition.update({"sigma_min": 0.01, "sigma_data": 0.6})
    interop.write_diffusers(loaded, tmp_path / "out")
    with pytest.raises(ict_jax.ArgumentError, match="exists already and is not an empty"):
        interop.write_diffusers(loaded, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    again = interop.read_weights(tmp_path / "out", small("adm"))
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    for section in ("precondition", "discretization"):
        for key in ("sigma_min", "sigma_max", "rho", "sigma_data"):
            assert again.config[section].get(key) == loaded.config[section].get(key), key
    assert again.config.image_shape == (8, 8, 1)
    different = {k for k, v in again.config.model.items() if v != loaded.config.model.get(k)}
    assert different <= {"dropout"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: "odd"}, f"has {name}='odd', expected") for name in ADM_IS),
        ({"attn_norm_num_groups": 16}, "attn_norm_num_groups=16, expected 32"),
        ({"attention_head_dim": 0}, "describes no network"),
        ({"attention_head_dim": 64.0}, "describes no network"),
        ({"sample_size": -8}, "describes no network"),
        ({"num_class_embeds": 10**30}, "describes no network"),
        ({"in_channels": True}, "describes no network"),
        ({"down_block_types": ["DownBlock2D"]}, "'down_block_types'.*ADM does not cover"),
        ({"block_out_channels": [64, 100]}, "describes no network|ADM does not cover"),
        ({"block_out_channels": []}, "describes no network"),
        ({"resnet_time_scale_shift": "spatial"}, "describes no network"),
        ({"out_channels": 6}, "'out_channels'.*ADM does not cover"),
        ({"layers_per_block": 2}, "arrays are missing, first"),
    ],
)
def test_directories_of_other_networks_are_refused(tmp_path, changes, message):
    loaded = exportable_adm()
    interop.write_diffusers(loaded, tmp_path)
    file = tmp_path / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ict_jax.ArgumentError, match=message):
        interop.read_weights(tmp_path, small("adm"))


def test_damaged_directories_are_refused(tmp_path):
    loaded, first, tmp_path = exportable_adm(), tmp_path / "a", tmp_path / "b"
    interop.write_diffusers(loaded, first)
    weights = first / "unet" / "diffusion_pytorch_model.safetensors"
    arrays, _ = interop.formats.read_safetensors(weights)
    safetensors.numpy.save_file(arrays, weights, {"format": "pt"})  # as others write it
    shutil.copytree(first, tmp_path)
    levels = tmp_path / "scheduler" / "scheduler_config.json"
    whole = json.loads(levels.read_text())
    for change, message in [
        ({"_class_name": "DDPMScheduler"}, "_class_name='DDPMScheduler', expected"),
        ({"sigma_data": None}, "has sigma_data=None, expected a number"),
        ({"sigma_data": -1}, "sigma_data=-1.0 must be positive"),
        ({"sigma_max": 0}, "sigma_max=0.0"),
        ({"sigma_min": float("nan")}, "sigma_min=nan"),
        ({"rho": 10**400}, "cannot be read as weights"),
    ]:
        levels.write_text(json.dumps(whole | change))
        with pytest.raises(ict_jax.ArgumentError, match=message):
            interop.read_weights(tmp_path, small("adm"))
    levels.write_text("{")
    with pytest.raises(ict_jax.ArgumentError, match="cannot be read as a JSON file"):
        interop.read_weights(tmp_path, small("adm"))
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    for name, message in (
        ("config.json", r"config.json cannot be read \(No such file"),
        (weights.name, r"holds none of \['diffusion_pytorch_model"),
    ):
        (tmp_path / "unet" / name).unlink()
        with pytest.raises(ict_jax.ArgumentError, match=message):
            interop.read_weights(tmp_path, small("adm"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("adm", r"multiplied by 1000, and this one has .* multiplier 1\.0"), ("ncsnpp", "is another")],
)
def test_networks_that_diffusers_cannot_run_are_refused(name, message, tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        interop.write_diffusers(random_loaded(small(name)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    diffusion = exportable_adm()
    diffusion.config.precondition.name = "edm"
    del diffusion.config.precondition.sigma_min
    with pytest.raises(ict_jax.ArgumentError, match="this one has precondition 'edm'"):
        interop.write_diffusers(diffusion, tmp_path / "out")
    narrow = exportable_adm()
    narrow.config.model.min_group_channels = 4
    with pytest.raises(ict_jax.ArgumentError, match="at least 4 channels a group and diffusers'"):
        interop.write_diffusers(narrow, tmp_path / "out")


def test_config_of_an_import_is_complete():
    """So that training can go on from it, and scoring finds its data."""
    loaded = interop.read_weights(golden.MSGPACK, tiny_cifar10())
    assert isinstance(loaded.config, ConfigDict)
    check_config(loaded.config)
    assert loaded.step == int(
        flax.serialization.msgpack_restore(golden.MSGPACK.read_bytes())["step"]
    )
