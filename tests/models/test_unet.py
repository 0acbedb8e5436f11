"""NCSN++, DDPM++ and ADM: sizes, equality with the published networks, options."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ict_jax import as_consistency_fn, boundary_scalings
from ict_jax.checkpoints.interop.arrays import export_arrays, import_arrays
from ict_jax.checkpoints.interop.name_maps import adm_layout, jcm_layout
from ict_jax.models import ADM, DDPMpp, NCSNpp
from tests import golden

TINY_NCSNPP = NCSNpp(
    channels=8, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(4,), fourier_scale=1.0
)
TINY_ADM = ADM(
    channels=64, channel_mult=(1, 1), num_res_blocks=1, attention_resolutions=(4,), head_channels=32
)


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@functools.lru_cache
def shapes(model, size, channels=3):
    def init(key):
        x, one = jnp.zeros((1, size, size, channels)), jnp.zeros(1)
        return model.init(key, x, one, one.astype(int))["params"]

    return jax.eval_shape(init, jax.random.key(0))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("model", "size", "number"),
    [
        (NCSNpp(), 32, 56_395_651),
        (NCSNpp(num_res_blocks=8), 32, 97_610_627),
        (ADM(num_classes=1000), 64, 282_168_003),
        pytest.param(
            ADM(num_classes=1000, num_res_blocks=6), 64, 472_767_555, marks=pytest.mark.slow
        ),
        (ADM(num_classes=1000, scale_shift_norm=True), 64, 295_899_267),
        pytest.param(
            ADM(num_classes=1000, scale_shift_norm=True, num_res_blocks=6),
            64,
            495_357_699,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_number_of_parameters(model, size, number):
    assert count(shapes(model, size)) == number
    scanned = model.clone(scan_blocks=True)
    assert shapes(scanned, size) == shapes(model, size)


def test_ddpmpp_is_ncsnpp_without_pyramid_and_fourier_features():
    """EDM's paper says 55.7 million."""
    number = count(shapes(DDPMpp(), 32))
    assert round(number / 1e6, 1) == 55.7
    pyramid = (9 * 3 * 256 + 256) + (9 * 256 * 256 + 256)
    half_of_the_features = 128 * 512
    assert number == 56_395_651 - pyramid - half_of_the_features - 128


@pytest.mark.parametrize(
    ("model", "layout", "file"),
    [
        (NCSNpp(), jcm_layout, "ncsnpp_cifar10_params.json"),
        (ADM(num_classes=1000, scale_shift_norm=True), adm_layout, "adm_imagenet64_params.json"),
    ],
)
def test_names_and_shapes_of_the_released_networks(model, layout, file):
    theirs = {k: tuple(v) for k, v in json.loads((golden.HERE / file).read_text()).items()}
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in theirs.items()}
    size = 32 if isinstance(model, NCSNpp) else 64
    params = import_arrays(arrays, layout(model), file)
    expected = shapes(model, size)
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.parametrize("options", [{}, {"scan_blocks": True}, {"remat": True}])
def test_ncsnpp_equals_the_published_network(options):
    model, arrays, data = golden.ncsnpp()
    params = import_arrays(arrays, jcm_layout(model, (16, 16, 3)), "the checkpoint")
    model = model.clone(**options)
    x, sigma = jnp.asarray(data["x"]), jnp.asarray(data["sigma"])

    @jax.jit
    def network(x, c_noise):
        return model.apply({"params": params}, x, c_noise)

    c_in, c_noise = boundary_scalings(sigma)[2:]
    raw = network(c_in[:, None, None, None] * x, c_noise)
    np.testing.assert_allclose(raw, data["F"], atol=2e-5)
    f = as_consistency_fn(network)(x, sigma)
    np.testing.assert_allclose(f, data["D"], atol=2e-5)


@pytest.mark.parametrize(
    ("name", "multiplier", "options"),
    [
        ("adm_tiny", 1, {}),
        ("adm_tiny", 1000, {}),
        ("adm_tiny", 1, {"scan_blocks": True}),
        pytest.param("adm_tiny", 1, {"remat": True}, marks=pytest.mark.slow),
        ("adm_tiny_additive", 1, {}),
        pytest.param("adm_tiny_additive", 1000, {}, marks=pytest.mark.slow),
        pytest.param("adm_tiny_additive", 1, {"scan_blocks": True}, marks=pytest.mark.slow),
        pytest.param("adm_tiny_additive", 1, {"remat": True}, marks=pytest.mark.slow),
    ],
)
def test_adm_equals_the_published_network(name, multiplier, options):
    model, arrays, data = golden.adm(name)
    model = model.clone(c_noise_multiplier=multiplier, **options)
    layout = adm_layout(model, (16, 16, 3))
    params = import_arrays(arrays, layout, name)
    x, labels = jnp.asarray(data["x"]).transpose(0, 2, 3, 1), jnp.asarray(data["y"])
    sigma = jnp.asarray(data["sigma"])

    @jax.jit
    def network(x, c_noise):
        return model.apply({"params": params}, x, c_noise, labels)

    c_in, c_noise = boundary_scalings(sigma)[2:]
    raw = network(c_in[:, None, None, None] * x, c_noise).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(raw, data[f"F_x{multiplier}"], atol=2e-5)
    f = as_consistency_fn(network)(x, sigma).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(f, data[f"D_x{multiplier}"], atol=2e-5)
    for key, array in export_arrays(params, layout).items():
        np.testing.assert_array_equal(array, arrays[key].reshape(array.shape))


def random_network(model, size=8, seed=0):
    """Parameters away from the zeros of the initialisation, input, noise levels, classes."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: (
            (leaf.ndim == 1) * 0.5
            + rng.standard_normal(leaf.shape).astype(np.float32)
            / np.sqrt(np.prod(leaf.shape[-4:-1]))
        ),
        shapes(model, size, channels=1),
    )
    x = rng.standard_normal((3, size, size, 1)).astype(np.float32)
    return {"params": params}, x, np.array([-1.0, 0.2, 1.0], np.float32), np.array([0, 1, 2])


MODELS = pytest.mark.parametrize("model", [TINY_NCSNPP, TINY_ADM], ids=["ncsnpp", "adm"])


@pytest.mark.slow
@MODELS
def test_scan_and_remat_change_neither_outputs_nor_gradients(model):
    model = model.clone(
        dropout=0.3, channel_mult=(1,), num_res_blocks=2, attention_resolutions=(8,)
    )
    params, x, c_noise, _ = random_network(model)

    def loss(params, model):
        rngs = {"dropout": jax.random.key(5)}
        return (model.apply(params, x, c_noise, train=True, rngs=rngs) ** 2).mean()

    value = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    expected = value(params, model)
    for options in (
        {"scan_blocks": True},
        {"remat": True},
        {"remat": True, "scan_blocks": True},
    ):
        got = value(params, model.clone(**options))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), got, expected
        )


@pytest.mark.parametrize(
    ("options", "share"),
    [({"scan_blocks": True}, 0.5), ({"remat": True}, 0.2)],
)
def test_bytes_kept_for_the_gradient(options, share):
    """A loop over blocks keeps the products for the gradient, not all values."""

    def kept(model):
        x, c_noise = jnp.zeros((4, 16, 16, 3)), jnp.zeros(4)

        def network(params):
            rngs = {"dropout": jax.random.key(1)}
            return model.apply({"params": params}, x, c_noise, train=True, rngs=rngs)

        return count(jax.eval_shape(lambda p: jax.vjp(network, p)[1], shapes(model, 16)))

    model = NCSNpp(
        channels=32, channel_mult=(2, 2), num_res_blocks=4, attention_resolutions=(8,), dropout=0.3
    )
    parameters = count(shapes(model, 16))
    assert kept(model.clone(**options)) - parameters < share * (kept(model) - parameters)


def inside(model, params, x, c_noise, chosen, **options):
    """Outputs of the submodules whose path `chosen` accepts."""

    def capture(module, method):
        return method == "__call__" and chosen("/".join(module.path))

    def run(params):
        settings = {"capture_intermediates": capture, "mutable": ["intermediates"], **options}
        return model.apply(params, x, c_noise, **settings)[1]["intermediates"]

    flat = jax.tree_util.tree_leaves_with_path(jax.jit(run)(params))
    return {"/".join(key.key for key in path[:-2]): np.asarray(leaf) for path, leaf in flat}


@MODELS
def test_bfloat16_is_for_the_computation_only(model):
    params, x, c_noise, _ = random_network(model)
    half = model.clone(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(half, 8))} == {jnp.dtype("float32")}
    a = jax.jit(model.apply)(params, x, c_noise)
    b = jax.jit(half.apply)(params, x, c_noise)
    assert b.dtype == jnp.float32
    assert 1e-4 < float(abs(a - b).mean() / abs(a).mean()) < 0.05
    outputs = inside(half, params, x, c_noise, lambda path: path.startswith("middle"))
    types = {path.rsplit("/", 1)[-1]: array.dtype.name for path, array in outputs.items()}
    assert types["conv_0"] == types["query"] == types["middle_0"] == "bfloat16"
    assert types["norm_0"] == types["norm_1"] == types["norm"] == types["embedding"] == "float32"


@MODELS
def test_bfloat16_sees_neighbouring_levels(model):
    """Two levels of the finest grid differ by 0.0014 in c_noise, less than bfloat16 resolves."""
    model = model.clone(dtype="bfloat16")
    params, x, _, _ = random_network(model)
    a, b = (
        inside(model, params, x, np.full(3, c, np.float32), lambda path: "embedding" in path)
        for c in (1.0, 1.0014)
    )
    assert a.keys() == b.keys() and len(a) >= 6
    for path in a:
        assert (a[path] != b[path]).mean() > 0.9, path


def test_dropout_only_at_low_resolutions():
    model = TINY_ADM.clone(dropout=0.5, dropout_max_resolution=4)
    params, x, c_noise, _ = random_network(model)

    def zeros(path):
        return path.split("/")[-1].startswith("Dropout")

    key = {"dropout": jax.random.key(0)}
    outputs = inside(model, params, x, c_noise, zeros, train=True, rngs=key)
    for path, array in outputs.items():
        assert array.shape[-2] in (4, 8)
        share = (array == 0).mean()
        # A block that halves or doubles drops at the resolution that it makes.
        assert share == pytest.approx(0.5, abs=0.1) if array.shape[-2] == 4 else share < 0.01, path
    assert {array.shape[-2] for array in outputs.values()} == {4, 8}
    outputs = inside(model, params, x, c_noise, zeros, train=False)
    assert all((array == 0).mean() < 0.01 for array in outputs.values())


def test_blocks_of_a_group_have_masks_of_their_own():
    model = TINY_NCSNPP.clone(dropout=0.5, channel_mult=(1,), num_res_blocks=2)
    model = model.clone(attention_resolutions=())
    params, x, c_noise, _ = random_network(model)
    outputs = inside(
        model,
        params,
        x,
        c_noise,
        lambda path: "Dropout" in path,
        train=True,
        rngs={"dropout": jax.random.key(0)},
    )
    masks = [array == 0 for path, array in outputs.items() if path.startswith("down_0_0/")]
    assert masks and masks[0].shape[0] == 2
    assert (masks[0][0] != masks[0][1]).mean() > 0.3


@pytest.mark.parametrize(
    ("small", "deep", "size"),
    [
        (NCSNpp(), NCSNpp(num_res_blocks=8), 32),
        pytest.param(
            ADM(num_classes=1000),
            ADM(num_classes=1000, num_res_blocks=6),
            64,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_scanned_deep_networks_trace_to_as_many_equations(small, deep, size):
    """Forward and backward; equations inside loops and calls are counted once."""

    def equations(model):
        x, one = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), jnp.zeros(1)

        def loss(params, x):
            return (model.apply({"params": params}, x, one, one.astype(int)) ** 2).mean()

        return number_of_equations(jax.make_jaxpr(jax.grad(loss))(shapes(model, size), x).jaxpr)

    scanned = [equations(model.clone(scan_blocks=True)) for model in (small, deep)]
    assert scanned[1] <= 1.3 * scanned[0], scanned


def number_of_equations(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += number_of_equations(inner)
    return total


@MODELS
def test_classes_and_levels_matter(model):
    model = model.clone(num_classes=10)
    params, x, c_noise, labels = random_network(model)
    apply = jax.jit(model.apply)
    a, b = apply(params, x, c_noise, labels), apply(params, x, c_noise, labels * [1, 5, 1])
    changed = np.abs(np.asarray(a) - np.asarray(b)).max(axis=(1, 2, 3))
    assert changed[1] > 1e-3 and changed[0] == changed[2] == 0
    assert np.abs(np.asarray(a) - np.asarray(apply(params, x, c_noise + 0.3, labels))).max() > 1e-3


@pytest.mark.parametrize("network", [NCSNpp, ADM])
def test_initialisation_is_as_published(network):
    model = network(
        channels=64,
        channel_mult=(1, 1),
        num_res_blocks=1,
        attention_resolutions=(4,),
        num_classes=9,
    )
    x, one = jnp.ones((2, 8, 8, 3)), jnp.ones(2)
    labels = one.astype(int)
    variables = jax.jit(model.init)(jax.random.key(0), x, one, labels)
    assert float(abs(jax.jit(model.apply)(variables, x, one, labels)).max()) < 1e-3
    params = jax.tree.map(np.asarray, variables["params"])
    block, attention, width = params["down_1_0"]["block"], params["middle_attention"], 64
    if network is NCSNpp:
        bound = np.sqrt(3 / (9 * width))  # mean of fan in and fan out: 9 * 64
        assert not block["conv_0"]["bias"].any()
        assert 0 < np.abs(block["conv_1"]["kernel"]).max() < 1e-5
        assert np.abs(attention["query"]["kernel"]).max() <= np.sqrt(0.3 / width)
        assert params["fourier"]["W"].std() == pytest.approx(0.02, rel=0.2)
    else:
        bound = 1 / np.sqrt(9 * width)
        assert 0.9 * bound < np.abs(block["conv_0"]["bias"]).max() <= bound
        assert not block["conv_1"]["kernel"].any() and not block["conv_1"]["bias"].any()
        assert params["labels"]["embedding"].std() == pytest.approx(1, rel=0.1)
    kernel = block["conv_0"]["kernel"]
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"channel_mult": ()}, r"channel_mult=\(\) must be whole numbers"),
        ({"dropout": 1.0}, "dropout=1.0 must be in"),
        ({"dtype": "float16"}, "dtype='float16' must be"),
        ({"num_classes": -1}, "num_classes=-1 must be"),
        ({"channels": 130}, "channels=130 leads to a layer of 130 channels"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NCSNpp(**fields)


def test_impossible_heads_features_and_images_are_refused():
    with pytest.raises(ValueError, match="channels=32 leads to groups of one channel"):
        ADM(channels=32, head_channels=32)
    with pytest.raises(ValueError, match="head_channels=100 must divide the widths"):
        ADM(head_channels=100)
    with pytest.raises(ValueError, match="embedding='sine' must be"):
        NCSNpp(embedding="sine")
    with pytest.raises(ValueError, match="must have 2 or 4 taps"):
        NCSNpp(resample_kernel=(1, 2, 1))
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        NCSNpp().check_image_shape((30, 30, 3))
    with pytest.raises(ValueError, match=r"must be among the heights \[64, 32, 16\]"):
        NCSNpp(attention_resolutions=(12,)).check_image_shape((64, 64, 3))
