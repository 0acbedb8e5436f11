"""ADM beside diffusers' UNet2DModel, an implementation by others; and PyTorch's files.

Needs the extra `parity`.
"""

import collections
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ict_jax
from configs import openai_cifar10, openai_imagenet64
from ict_jax.checkpoints import Loaded, interop, load_consistency_fn
from ict_jax.checkpoints.interop.arrays import import_arrays
from ict_jax.checkpoints.interop.name_maps import adm_layout
from ict_jax.checkpoints.weights import write_ema
from ict_jax.config.check import resolve
from ict_jax.config.network import build_bind, build_init_params, build_model
from ict_jax.models import ADM
from tests import golden

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

GOLDEN = ["adm_tiny", "adm_tiny_additive"]


def config_of(model, image_shape):
    config = openai_imagenet64.get_config()
    config.image_shape = image_shape
    with config.unlocked():
        config.model.update(golden.fields(model))
    return resolve(config, None)


def published(name):
    """The golden network as a checkpoint with the released models' c_noise."""
    model, arrays, data = golden.adm(name)
    model = model.clone(c_noise_multiplier=1000.0)
    params = import_arrays(arrays, adm_layout(model, (16, 16, 3)), name)
    return Loaded(params, config_of(model, (16, 16, 3)), 0), data


def torch_output(unet, x, sigma, labels):
    """UNet2DModel on channels-last numpy arrays."""
    c_in, c_noise = map(np.asarray, ict_jax.boundary_scalings(jnp.asarray(sigma))[2:])
    c_in = c_in[:, None, None, None]
    with torch.no_grad():
        out = unet(
            torch.tensor((c_in * x).transpose(0, 3, 1, 2)),
            torch.tensor(1000 * c_noise),
            None if labels is None else torch.tensor(labels),
        ).sample
    return out.numpy().transpose(0, 2, 3, 1)


def our_output(loaded, x, sigma, labels):
    model = build_model(loaded.config)
    c_in, c_noise = ict_jax.boundary_scalings(jnp.asarray(sigma))[2:]
    with jax.default_matmul_precision("highest"):
        return jax.jit(model.apply)(
            {"params": loaded.params}, c_in[:, None, None, None] * x, c_noise, labels
        )


@pytest.mark.parametrize("name", GOLDEN)
def test_exported_network_gives_the_published_outputs_in_diffusers(name, tmp_path):
    loaded, data = published(name)
    interop.write_diffusers(loaded, tmp_path)
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path)
    x, labels = data["x"].transpose(0, 2, 3, 1), data["y"]
    theirs = torch_output(pipeline.unet, x, data["sigma"], labels)
    np.testing.assert_allclose(theirs.transpose(0, 3, 1, 2), data["F_x1000"], atol=2e-5)
    np.testing.assert_allclose(theirs, our_output(loaded, x, data["sigma"], labels), atol=2e-5)


@pytest.mark.parametrize(
    ("model", "image_shape"),
    [
        (
            ADM(
                channels=64,
                channel_mult=(1, 2, 3),
                num_res_blocks=2,
                attention_resolutions=(8, 4),
                head_channels=32,
                num_classes=5,
            ),
            (16, 16, 3),
        ),
        (
            ADM(
                channels=64,
                channel_mult=(1, 1),
                num_res_blocks=1,
                attention_resolutions=(12,),
                head_channels=16,
                scale_shift_norm=True,
            ),
            (12, 12, 1),
        ),
    ],
)
def test_our_network_equals_diffusers_at_other_sizes(model, image_shape, tmp_path):
    model = model.clone(c_noise_multiplier=1000.0)
    rng = np.random.default_rng(1)
    config = config_of(model, image_shape)
    params = jax.tree.map(
        lambda leaf: (
            (rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[-4:-1]))).astype(
                np.float32
            )
            + np.float32(leaf.ndim == 1)
        ),
        jax.eval_shape(build_init_params(config), jax.random.key(0)),
    )
    loaded = Loaded(params, config, 0)
    sigma = np.array([0.01, 1.0, 60.0], np.float32)
    x = rng.standard_normal((3, *image_shape)) * np.sqrt(sigma**2 + 0.25)[:, None, None, None]
    x = x.astype(np.float32)
    labels = np.array([0, 3, 4]) if model.num_classes else None
    interop.write_diffusers(loaded, tmp_path / "a")
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path / "a")
    assert pipeline.scheduler.config.clip_denoised
    pipeline.scheduler.set_timesteps(timesteps=[788, 0])  # counted from sigma_max
    levels = ict_jax.karras_sigmas(config.discretization.s1 + 1)[::-1]
    np.testing.assert_allclose(pipeline.scheduler.sigmas[:2], levels[[0, 788]], rtol=1e-6)
    theirs = torch_output(pipeline.unet, x, sigma, labels)
    ours = np.asarray(our_output(loaded, x, sigma, labels))
    assert np.abs(ours).std() > 0.1
    np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())
    # A directory that diffusers itself wrote comes back bitwise.
    pipeline.save_pretrained(tmp_path / "b")
    again = interop.read_weights(tmp_path / "b", openai_imagenet64.get_config())
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    assert build_model(again.config) == model


@pytest.mark.parametrize("name", GOLDEN)
def test_one_step_samples_agree_with_the_pipeline(name, tmp_path):
    loaded, _ = published(name)
    write_ema(tmp_path / "run", *loaded)
    interop.write_diffusers(loaded, tmp_path / "diffusers")
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path / "diffusers")
    pipeline.set_progress_bar_config(disable=True)
    noise = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 9])
    theirs = pipeline(
        batch_size=4,
        num_inference_steps=1,
        class_labels=labels.tolist(),
        latents=torch.tensor(noise.transpose(0, 3, 1, 2)),
        output_type="np",
    ).images
    f, config = load_consistency_fn(tmp_path / "run")
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(f)(80 * noise, jnp.full(4, config.discretization.sigma_max), labels)
    ours = np.clip(np.asarray(ours), -1, 1) / 2 + 0.5
    assert ours.std() > 0.05
    np.testing.assert_allclose(theirs, ours, atol=1e-3)


def pt_config():
    model = golden.adm("adm_tiny").model
    return config_of(model.clone(c_noise_multiplier=1000.0), (16, 16, 3))


def test_openai_pt_file(tmp_path):
    _, arrays, data = golden.adm("adm_tiny")
    state = collections.OrderedDict((k, torch.tensor(v)) for k, v in arrays.items())
    torch.save(state, tmp_path / "ct_imagenet64.pt")
    loaded = interop.read_weights(tmp_path / "ct_imagenet64.pt", pt_config())
    f = build_bind(loaded.config)(loaded.params, jnp.asarray(data["y"]), None)
    with jax.default_matmul_precision("highest"):
        out = jax.jit(f)(jnp.asarray(data["x"].transpose(0, 2, 3, 1)), jnp.asarray(data["sigma"]))
    np.testing.assert_allclose(np.asarray(out).transpose(0, 3, 1, 2), data["D_x1000"], atol=2e-5)
    torch.save({k: torch.nn.Parameter(v) for k, v in state.items()}, tmp_path / "parameters.pt")
    again = interop.read_weights(tmp_path / "parameters.pt", pt_config())
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    half = {name: value.half() for name, value in state.items()}
    torch.save(half, tmp_path / "half.pt")
    rounded = interop.read_weights(tmp_path / "half.pt", pt_config())
    kernel = rounded.params["conv_in"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, loaded.params["conv_in"]["kernel"].astype(np.float16))


class Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_file_is_executed(tmp_path):
    for name, save in [
        ("zip.pt", lambda value, path: torch.save({"a": value}, path)),
        ("plain.pt", lambda value, path: path.write_bytes(pickle.dumps(value))),
        ("msgpack", lambda value, path: path.write_bytes(pickle.dumps(value))),
    ]:
        save(Touches(tmp_path / "touched"), tmp_path / name)
        with pytest.raises(
            ict_jax.ArgumentError,
            match=r"cannot be read as|holds no|asks for io|is no PyTorch file",
        ):
            config = pt_config() if name.endswith("pt") else openai_cifar10.get_config()
            interop.read_weights(tmp_path / name, config)
        assert not (tmp_path / "touched").exists()
    with open(tmp_path / "zip.pt", "rb") as file:  # the test can tell
        assert b"touched" in file.read()


def test_bad_pt_files_are_refused(tmp_path):
    _, arrays, _ = golden.adm("adm_tiny")
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    path = tmp_path / "a.pt"
    torch.save(state, path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(ict_jax.ArgumentError, match=r"is empty|cannot be read as a PyTorch"):
            interop.read_weights(path, pt_config())
    first = min(state)
    cases = [
        ({k: v for k, v in state.items() if k != first}, "1 arrays are missing, first"),
        (state | {"more": torch.ones(2)}, r"1 are left over, first \['more'\]"),
        (state | {first: torch.ones(2, 3)}, r"has shape \(2, 3\) and type float32"),
        (state | {first: state[first].int()}, "type int32, expected floats"),
        ({"model": state}, "holds no state dict of tensors"),
        ([1, 2], "holds no state dict of tensors"),
    ]
    for value, message in cases:
        torch.save(value, path)
        with pytest.raises(ict_jax.ArgumentError, match=message):
            interop.read_weights(path, pt_config())
