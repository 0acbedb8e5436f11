"""Which parameters a run may start from, by the keys of both configs that change the function."""

import json

import pytest
from ml_collections import ConfigDict

from configs import (
    cd,
    cifar10_ict,
    digits,
    ect,
    edm,
    imagenet64_ict,
    openai_cifar10,
    scd,
    sct,
)
from ict_jax.config.compare import FUNCTION_FREE, differing_function


def stored(config):
    """As a checkpoint has it: of JSON, and with what the data say."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        if config.precondition.sigma_data is None:
            config.precondition.sigma_data = 0.61
        return ConfigDict(json.loads(json.dumps(config.to_dict())))


def changed(config, **changes):
    config = stored(config)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        config[section][key] = value
    return config


CIFAR10, IMAGENET64 = cifar10_ict.get_config(), imagenet64_ict.get_config()
CHANGES = [
    (IMAGENET64, "model__c_noise_multiplier", 1000.0),
    (IMAGENET64, "model__head_channels", 32),
    (IMAGENET64, "model__scale_shift_norm", True),
    (IMAGENET64, "model__attention_resolutions", (32, 16)),
    (CIFAR10, "model__resample_kernel", (1, 1)),
    (CIFAR10, "model__embedding", "positional"),
    (CIFAR10, "model__residual_input", False),
    (CIFAR10, "model__channels", 64),
    (digits.get_config(), "model__width", 64),
    (CIFAR10, "precondition__sigma_data", 0.25),
    (CIFAR10, "precondition__sigma_min", 0.004),
    (CIFAR10, "precondition__name", "trigflow"),
]


@pytest.mark.parametrize(("config", "name", "value"), CHANGES)
def test_a_key_that_changes_the_function_is_named(config, name, value):
    (found,) = differing_function(changed(config, **{name: value}), stored(config))
    assert found.startswith(name.replace("__", ".") + " (") and found.count("->") == 1


def test_what_a_config_leaves_out_is_as_the_network_has_it():
    first = stored(IMAGENET64)
    del first.model.c_noise_multiplier
    assert differing_function(first, IMAGENET64) == []
    (found,) = differing_function(first, changed(IMAGENET64, model__min_group_channels=2))
    assert found == "model.min_group_channels (1 -> 2)"


def test_a_network_of_another_kind_is_named():
    assert differing_function(stored(IMAGENET64), CIFAR10) == ["model.name ('adm' -> 'ncsnpp')"]


@pytest.mark.parametrize("name", FUNCTION_FREE)
def test_keys_that_change_only_training_and_computation_may_differ(name):
    values = {
        "dropout": 0.5,
        "dropout_max_resolution": 8,
        "fourier_scale": 16.0,
        "dtype": "bfloat16",
    }
    own = IMAGENET64 if name == "dropout_max_resolution" else CIFAR10
    other = changed(own, **{f"model__{name}": values.get(name, True)})
    assert other.model[name] != own.model[name]
    assert differing_function(other, own) == []


STARTS = [
    *(
        (edm, form, module, form)
        for form in ("smoke", "digits", "fashion_mnist")
        for module in (cd, ect)
    ),
    *(
        (edm, f"trigflow{end}", module, end.strip("_") or "full")
        for end in ("", "_digits", "_fashion_mnist")
        for module in (sct, scd)
    ),
    (edm, "full", cd, "full"),
    (edm, "full", cd, "lpips"),
    (edm, "ddpmpp", ect, "full"),
    (openai_cifar10, "edm", cd, "full"),
    (openai_cifar10, "full", cifar10_ict, "full"),
]


@pytest.mark.parametrize(("source", "from_form", "module", "form"), STARTS)
def test_every_start_that_the_docs_name_is_accepted(source, from_form, module, form):
    theirs, ours = stored(source.get_config(from_form)), stored(module.get_config(form))
    assert differing_function(theirs, ours) == []
