"""Every config builds, and every key of it is read by exactly the callable it names."""

import importlib.util
import inspect

import jax
import pytest

import ict_jax
from configs import base
from ict_jax import build, loop
from ict_jax.evaluation.run import Evaluator
from ict_jax.metrics import RunLog
from ict_jax.store import Checkpoints
from ict_jax.training import parallel
from tests.helpers import ROOT

FILES = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
FORMS = [
    (path, form)
    for path in FILES
    for form in ("full", "smoke")
    if (path.stem, form) != ("base", "full")  # it names no network
]


def load(path, form):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(form)


@pytest.mark.parametrize(("path", "form"), FORMS, ids=lambda v: getattr(v, "stem", v))
def test_config_builds_at_full_size(path, form):
    config = load(path, form)
    build.check_config(config)
    config = build.resolve(config, build.build_dataset(config))
    state = jax.eval_shape(build.build_init_state(config))
    assert sum(a.size for a in jax.tree.leaves(state.params)) > 1000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_smoke_form_trains(path, tmp_path):
    config = load(path, "smoke")
    config.total_steps = 3
    config.evaluation.at_end = False
    loop.train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "3" / "ema").is_dir()


@pytest.mark.parametrize(("path", "form"), FORMS, ids=lambda v: getattr(v, "stem", v))
def test_every_key_is_taken(path, form):
    config = load(path, form)
    takers = {
        "mesh": [parallel.make_mesh],
        "logging": [RunLog],
        "checkpointing": [Checkpoints],
        "sampling": [Evaluator],
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
                build.check_config(broken)
                build.resolve(broken, build.build_dataset(broken))


PAPER = {
    "total_steps": 400_000,
    "batch_size": 1024,
    "discretization.s0": 10,
    "discretization.s1": 1280,
    "discretization.sigma_min": 0.002,
    "discretization.sigma_max": 80.0,
    "discretization.rho": 7.0,
    "discretization.p_mean": -1.1,
    "discretization.p_std": 2.0,
    "precondition.sigma_data": 0.5,
    "precondition.sigma_min": 0.002,
    "objective.huber_c": None,
    "optimizer.learning_rate": 1e-4,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.eps": 1e-8,
    "training.ema_decay": 0.99993,
    "training.flip": True,
    "sampling.second_sigma": 0.821,
}


def test_base_has_the_values_of_the_paper():
    config = base.get_config()
    for name, value in PAPER.items():
        section = config
        for part in name.split("."):
            section = section[part]
        assert section == value, name


def test_defaults_of_the_method_are_those_of_the_paper():
    """Written once, in the signatures; base.py spells them out and must agree."""
    config = base.get_config()
    for section, function in [
        ("discretization", ict_jax.make_discretization),
        ("precondition", ict_jax.as_consistency_fn),
        ("optimizer", build.make_optimizer),
        ("training", build.make_train_step),
        ("checkpointing", Checkpoints),
        ("evaluation", Evaluator),
    ]:
        parameters = inspect.signature(function).parameters
        for key, value in config[section].items():
            assert parameters[key].default == value, f"{section}.{key}"


def test_sigma_min_is_one_value():
    config = base.get_config()
    config.discretization.sigma_min = 0.01
    assert config.precondition.sigma_min == 0.01
