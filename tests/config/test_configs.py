"""Every config builds, and every key of it is read by exactly the callable it names."""

import importlib.util
import inspect

import jax
import numpy as np
import pytest

import ict_jax
from configs import base, digits, edm
from ict_jax.checkpoints.store import Checkpoints
from ict_jax.config.check import check_config, is_stated, resolve
from ict_jax.config.compare import ADDED, differing_keys
from ict_jax.config.network import build_bind, build_init_params
from ict_jax.config.objective import (
    CURRICULA,
    NOISE_LAWS,
    build_discretization,
    build_objective,
)
from ict_jax.config.sections import resolve_names
from ict_jax.config.training import (
    build_dataset,
    build_init_state,
    build_train_step,
    make_optimizer,
    make_train_step,
)
from ict_jax.core import schedules
from ict_jax.core.objectives import Draws
from ict_jax.data import Batches
from ict_jax.evaluation.evaluator import Evaluator, SampleGrids
from ict_jax.run import loop
from ict_jax.run.log import RunLog
from ict_jax.training import parallel
from tests.helpers import ROOT

FILES = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem not in ("__init__", "others"))
DISTILLING = ("cd", "scd")
"""What cannot train without a diffusion model; tests/run/test_objectives.py trains it."""


def load(path, form):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(form)


def has(path, form):
    try:
        load(path, form)
    except ValueError:
        return False
    return (path.stem, form) != ("base", "full")  # it names no network


FORMS = [
    (path, form)
    for path in FILES
    for form in (
        *("full", "smoke", "narrow", "hour", "edm", "digits", "fashion_mnist", "ddpmpp", "lpips"),
        *("trigflow", "trigflow_digits", "trigflow_fashion_mnist"),
    )
    if has(path, form)
]


ELSEWHERE = {"fashion_mnist": 1, "emoji": 3}
"""Sets that not every machine has, and their channels."""


def resolved(config):
    """The config with its data, or with what would come from it."""
    if config.data.name in ELSEWHERE:
        size, channels = config.data.image_size or 32, ELSEWHERE[config.data.name]
        config.image_shape, config.precondition.sigma_data = (size, size, channels), 0.87
    return resolve(config, None if is_stated(config) else build_dataset(config))


BUILDS = [
    pytest.param(path, form, marks=[pytest.mark.slow] * (form not in ("full", "smoke")))
    for path, form in FORMS
]


@pytest.mark.parametrize(("path", "form"), BUILDS, ids=lambda v: getattr(v, "stem", v))
def test_config_builds_at_full_size(path, form):
    config = load(path, form)
    check_config(config)
    state = jax.eval_shape(build_init_state(resolved(config)))
    assert sum(a.size for a in jax.tree.leaves(state.params)) > 1000


# By default one dense network and one U-Net; in CI all.
QUICK = ("digits",)


def trained(path):
    """What a form of seconds trains, sampling and the run itself aside."""
    config = load(path, "smoke").to_dict()
    return [config[name] for name in ("model", "objective", "precondition", "data")]


def is_another(path):
    """Whether the form of seconds trains the same as that of a config before it."""
    before = FILES[: FILES.index(path)]
    return trained(path) in [trained(p) for p in before if has(p, "smoke")]


SMOKE = [
    pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.slow, id=path.stem)
    for path in FILES
    if has(path, "smoke") and path.stem not in DISTILLING and not is_another(path)
]


@pytest.mark.parametrize("path", SMOKE)
def test_smoke_form_trains(path, tmp_path):
    config = load(path, "smoke")
    config.total_steps = 8  # as many as the stages of ECT
    config.mesh.num_devices = 1
    config.evaluation.at_end = False
    loop.train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "8" / "ema").is_dir()


# The other forms have the same sections.
SECTIONS = [
    (path, form) for path, form in FORMS if form in ("full", "lpips") or path.stem == "base"
]


@pytest.mark.parametrize(("path", "form"), SECTIONS, ids=lambda v: getattr(v, "stem", v))
def test_every_key_is_taken(path, form):
    config = load(path, form)
    takers = {
        "mesh": [parallel.make_mesh],
        "pipeline": [Batches],
        "logging": [RunLog],
        "checkpointing": [Checkpoints],
        "sampling": [SampleGrids],
        "evaluation": [Evaluator],
    }
    for section, callables in takers.items():
        accepted = set().union(*(inspect.signature(c).parameters for c in callables))
        assert set(config[section]) <= accepted, section
    # The other sections are splatted by check_config, which refuses keys that nothing takes.
    for section in sorted(set(config) - set(takers)):
        if hasattr(config[section], "unlock"):
            broken = load(path, form)
            broken[section].surplus = 1
            with pytest.raises(ict_jax.ArgumentError, match=rf"config.{section} has the unknown"):
                check_config(broken)
                resolved(broken)
                build_dataset(broken)


# Typed from the paper and its fact sheet, not from the configs.
SHARED = {
    "image_shape": (32, 32, 3),
    "total_steps": 400_000,
    "batch_size": 1024,
    "init_from": None,
    "diffusion_from": None,
    "matmul_precision": None,
    "data.name": "tfds:cifar10",
    "discretization.curriculum": "doubling",
    "discretization.noise_law": "lognormal",
    "discretization.s0": 10,
    "discretization.s1": 1280,
    "discretization.sigma_min": 0.002,
    "discretization.sigma_max": 80.0,
    "discretization.rho": 7.0,
    "discretization.p_mean": -1.1,
    "discretization.p_std": 2.0,
    "precondition.name": "boundary",
    "precondition.sigma_data": 0.5,
    "precondition.sigma_min": 0.002,
    "objective.name": "ict",
    "objective.huber_c": None,
    "objective.target_decay": None,
    "objective.metric": "pseudo_huber",
    "objective.weight": "inverse_gap",
    "optimizer.name": "radam",
    "optimizer.warm_up_steps": 0,
    "optimizer.learning_rate": 1e-4,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.eps": 1e-8,
    "training.ema_decay": 0.99993,
    "training.flip": True,
}
CIFAR10 = {
    "sampling.second_sigma": 0.821,
    "model.name": "ncsnpp",
    "model.channels": 128,
    "model.channel_mult": (2, 2, 2),
    "model.num_res_blocks": 4,
    "model.attention_resolutions": (16,),
    "model.resample_kernel": (1, 3, 3, 1),
    "model.residual_input": True,
    "model.embedding": "fourier",
    "model.fourier_scale": 0.02,
    "model.dropout": 0.3,
    "model.num_classes": 0,
    "model.dtype": "float32",
}
IMAGENET64 = {
    "image_shape": (64, 64, 3),
    "total_steps": 800_000,
    "batch_size": 4096,
    "data.name": "tfds:imagenet64",
    "training.ema_decay": 0.99997,
    "sampling.second_sigma": 1.526,
    "model.name": "adm",
    "model.channels": 192,
    "model.channel_mult": (1, 2, 3, 4),
    "model.num_res_blocks": 3,
    "model.attention_resolutions": (32, 16, 8),
    "model.head_channels": 64,
    "model.scale_shift_norm": False,
    "model.c_noise_multiplier": 1.0,
    "model.dropout": 0.2,
    "model.dropout_max_resolution": 16,
    "model.num_classes": 1000,
    "model.dtype": "float32",
}
CIFAR10_DEEP = {"model.num_res_blocks": 8, "sampling.second_sigma": 0.661}
IMAGENET64_DEEP = {"model.num_res_blocks": 6, "sampling.second_sigma": 0.973}
RECIPES = {
    "cifar10_ict": SHARED | CIFAR10,
    "cifar10_ict_deep": SHARED | CIFAR10 | CIFAR10_DEEP,
    "imagenet64_ict": SHARED | IMAGENET64,
    "imagenet64_ict_deep": SHARED | IMAGENET64 | IMAGENET64_DEEP,
}
UNIFORM = {"discretization.noise_law": "uniform"}
CM = {"model.fourier_scale": 16.0, "model.dropout": 0.0, "batch_size": 512, "total_steps": 800_000}
CM |= {"optimizer.learning_rate": 4e-4, "training.ema_decay": 0.9999}
CM |= {"objective.metric": "squared_l2", "objective.weight": "unit", **UNIFORM}
CONSTANT = {"discretization.curriculum": "constant", **UNIFORM}
DDPMPP = {"model.name": "ddpmpp", "model.embedding": "positional"}
DDPMPP |= {"model.resample_kernel": (1, 1), "model.residual_input": False}
SCT = {"precondition.name": "trigflow", "optimizer.b2": 0.99, "sampling.second_sigma": 0.982}
SCT |= {"objective.name": "sct", "objective.p_mean": -1.0, "objective.p_std": 1.8}
SCT |= {"objective.tangent_c": 0.1, "objective.warm_up_steps": 10_000}
OTHERS = {
    "ct": CM
    | {"objective.name": "ct", "objective.mu0": 0.9, "objective.s0": 2}
    | {"discretization.curriculum": "sqrt", "discretization.s0": 2, "discretization.s1": 150},
    "cd": CM
    | {"objective.name": "cd", "objective.target_decay": 0.0, "sampling.second_sigma": 0.585}
    | {"discretization.curriculum": "constant", "discretization.s0": 17, "discretization.s1": 17},
    "edm": CONSTANT
    | {"objective.name": "edm", "objective.p_mean": -1.2, "objective.p_std": 1.2}
    | {"precondition.name": "edm", "model.fourier_scale": 16.0, "model.dropout": 0.13}
    | {"batch_size": 512, "optimizer.name": "adam", "optimizer.learning_rate": 1e-3}
    | {"optimizer.warm_up_steps": 19_531, "training.ema_decay": 0.99929},
    "ect": CONSTANT
    | DDPMPP
    | {"objective.name": "ect", "objective.q": 2.0, "objective.stage_steps": 50_000}
    | {"objective.first_exponent": 1, "objective.k": 8.0, "objective.b": 1.0}
    | {"objective.p_mean": -1.1, "objective.p_std": 2.0, "objective.huber_c": 1e-8}
    | {"objective.weight": "inverse_gap", "precondition.name": "zero_boundary"}
    | {"batch_size": 128, "training.ema_decay": 0.9999, "model.dropout": 0.2},
    "sct": CONSTANT
    | DDPMPP
    | SCT
    | {"batch_size": 128, "training.ema_decay": 0.99982, "model.dropout": 0.2},
    "scd": CONSTANT
    | DDPMPP
    | SCT
    | {"objective.name": "scd", "objective.p_std": 1.4, "model.dropout": 0.0}
    | {"batch_size": 512, "training.ema_decay": 0.99929},
}
ICTS_OWN = ("objective.", "discretization.p_", "precondition.sigma_min")
"""Beginnings of keys that objectives do not share with iCT."""

# A matter of running the job, not of the method.
OURS = {
    "seed",
    "data.data_dir",
    "data.image_size",
    "data.in_memory",
    "model.remat",
    "model.scan_blocks",
    "training.accumulation_steps",
    "sampling.num_images",
}
JOB = ("mesh", "pipeline", "logging", "checkpointing", "evaluation")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_the_values_of_the_paper(name):
    assert method_of(name) == RECIPES[name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_objectives_have_their_papers_values(name):
    shared = {k: v for k, v in RECIPES["cifar10_ict"].items() if not k.startswith(ICTS_OWN)}
    found = method_of(name)
    if found["precondition.name"] == "boundary":
        assert found.pop("precondition.sigma_min") == 0.002
    assert found == shared | OTHERS[name]


def method_of(name):
    """What belongs to the method in a config, by dotted names."""
    config = resolve(load(ROOT / f"configs/{name}.py", "full"), None)
    flat = {}
    for key, value in config.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if hasattr(value, "items") else {}
        flat |= {} if hasattr(value, "items") else {key: value}
    return {k: v for k, v in flat.items() if k.split(".")[0] not in JOB and k not in OURS}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cifar10_ict", 56_395_651),
        ("cifar10_ict_deep", 97_610_627),
        ("imagenet64_ict", 282_168_003),
        ("imagenet64_ict_deep", 472_767_555),
    ],
)
def test_recipe_has_the_published_number_of_parameters(name, parameters):
    config = resolve(load(ROOT / f"configs/{name}.py", "full"), None)
    params = jax.eval_shape(build_init_params(config), jax.random.key(0))
    assert sum(a.size for a in jax.tree.leaves(params)) == parameters


def test_defaults_of_the_method_are_those_of_the_paper():
    """Written once, in the signatures; base.py spells them out and must agree."""
    config = base.get_config()
    tables = {"curriculum": CURRICULA, "noise_law": NOISE_LAWS}
    discretization = resolve_names("discretization", config.discretization, tables)
    for section, function in [
        ("discretization", ict_jax.make_discretization),
        ("precondition", ict_jax.as_consistency_fn),
        ("optimizer", make_optimizer),
        ("training", make_train_step),
        ("pipeline", Batches),
        ("checkpointing", Checkpoints),
        ("evaluation", Evaluator),
    ]:
        parameters = inspect.signature(function).parameters
        values = discretization if section == "discretization" else config[section]
        for key, value in values.items():
            assert key == "name" or parameters[key].default == value, f"{section}.{key}"


def test_sigma_min_is_one_value():
    config = base.get_config()
    config.discretization.sigma_min = 0.01
    assert config.precondition.sigma_min == 0.01


def test_precision_of_products_reaches_them_and_their_gradients():
    config = resolved(digits.get_config("smoke"))
    state = jax.eval_shape(build_init_state(config))
    image = jax.ShapeDtypeStruct((4, 8, 8, 1), jax.numpy.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((4,), jax.numpy.int32)}

    def traced():
        return str(jax.make_jaxpr(build_train_step(config))(state, batch))

    assert "Precision.HIGH" not in traced()
    config.matmul_precision = "high"
    products = traced().count("dot_general[")
    assert traced().count("(Precision.HIGH, Precision.HIGH)") == products > 0
    config.matmul_precision = "float33"
    with pytest.raises(ict_jax.ArgumentError, match=r"config.matmul_precision='float33' must be"):
        check_config(config)


@pytest.mark.parametrize(
    ("name", "section", "key", "part"),
    [
        ("ect", "objective", "stage_steps", 8),
        ("sct", "objective", "warm_up_steps", 40),
        ("scd", "objective", "warm_up_steps", 40),
        ("edm", "optimizer", "warm_up_steps", 20),
    ],
)
def test_parts_of_a_run_follow_its_length(name, section, key, part):
    config = load(ROOT / f"configs/{name}.py", "digits")
    config.total_steps = 4000
    assert config[section][key] == 4000 // part
    assert config.copy_and_resolve_references().to_dict()[section][key] == 4000 // part


@pytest.mark.parametrize("name", ["ct", "cd"])
def test_lpips_is_all_that_its_form_changes(name):
    config = load(ROOT / f"configs/{name}.py", "lpips")
    assert config.lpips.to_dict() == {
        "vgg_weights": None,
        "linear_weights": None,
        "size": 224,
        "pooling": "max",
    }
    assert config.objective.metric == "lpips"
    del config.lpips
    config.objective.metric = "squared_l2"
    assert config.to_dict() == load(ROOT / f"configs/{name}.py", "full").to_dict()


def test_configs_of_the_first_versions_name_what_was_in_effect():
    new = digits.get_config("smoke").to_dict()
    old = digits.get_config("smoke").to_dict()
    for key in ADDED:
        section, name = key.split(".")
        old[section].pop(name, None)
    assert differing_keys(old, new) == []
    new["optimizer"]["name"] = "adam"
    assert differing_keys(old, new) == ["optimizer.name ('radam' -> 'adam')"]


@pytest.mark.parametrize("name", CURRICULA)
def test_curricula_by_name(name):
    config = digits.get_config("smoke")
    config.discretization.curriculum = name
    disc, curriculum = config.discretization, getattr(schedules, f"{name}_curriculum")
    expected = curriculum(config.total_steps, s0=disc.s0, s1=disc.s1)
    tables = build_discretization(config)
    assert list(zip(tables.first_steps, tables.num_scales, strict=True)) == expected


def test_objectives_have_the_sigma_of_the_data():
    config = edm.get_config("smoke")
    config.precondition.sigma_data = 0.8
    x, one = jax.numpy.zeros((1, 8, 8, 1)), jax.numpy.ones(1)
    _, aux = build_objective(config).loss(lambda x, sigma: x, x, Draws(x, one, one))
    np.testing.assert_allclose(aux["weight"], (1 + 0.8**2) / 0.8**2, rtol=1e-6)


def test_a_run_starts_from_its_seed():
    def parameters(seed):
        config = resolved(digits.get_config("smoke"))
        config.seed = seed
        state = build_init_state(config)()
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])

    np.testing.assert_array_equal(parameters(1), parameters(1))
    assert (parameters(1) != parameters(2)).any()


def test_dropout_is_on_with_a_key_and_off_without():
    config = resolved(digits.get_config("smoke"))
    config.model.dropout = 0.5
    params = jax.tree.map(lambda p: p + 0.1, build_init_params(config)(jax.random.key(0)))
    x, sigma, labels = jax.numpy.ones((2, 8, 8, 1)), jax.numpy.full(2, 2.0), jax.numpy.zeros(2, int)

    def output(key):
        return np.asarray(build_bind(config)(params, labels, key)(x, sigma))

    assert (output(jax.random.key(1)) != output(jax.random.key(2))).any()
    np.testing.assert_array_equal(output(None)[0], output(None)[1])
