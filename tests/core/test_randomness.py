"""Seeds give the same numbers whatever the process-wide settings of JAX."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np

import ict_jax
from ict_jax.core import objectives
from ict_jax.data.order import epoch_order
from tests.helpers import ROOT

SETTINGS = (
    lambda: jax.enable_x64(True),
    lambda: jax.default_prng_impl("rbg"),
    lambda: jax.threefry_partitionable(False),
    lambda: jax.numpy_dtype_promotion("strict"),
)
DISC = ict_jax.make_discretization(800, s1=40)
OBJECTIVES = {
    "ict": objectives.ict_objective(DISC),
    "ct": objectives.ct_objective(DISC),
    "cd": objectives.cd_objective(DISC),
    "edm": objectives.edm_objective(),
    "ect": objectives.ect_objective(stage_steps=10),
    "sct": objectives.sct_objective(),
}


def drawn():
    """Return the core's draws from seeds, compiled and not."""

    def network(x, c_noise):
        return x * c_noise[:, None]

    f, denoiser = ict_jax.as_consistency_fn(network), ict_jax.as_denoiser(network)
    seeds = [0, 7, 2**32 - 1]
    keys, key = ict_jax.seed_keys(seeds), ict_jax.seed_keys([3])[0]
    x = jnp.linspace(-1, 1, 15, dtype=jnp.float32).reshape(3, 5)
    found = {
        "sample": ict_jax.sample(f, keys, (5,), (80.0, 2.0)),
        "jitted": jax.jit(lambda s: ict_jax.sample(f, ict_jax.seed_keys(s), (5,), (80.0, 2.0)))(
            np.array(seeds, np.uint32)
        ),
        "heun": ict_jax.heun_sample(denoiser, keys, (5,), (80.0, 2.0)),
        "ict_loss": ict_jax.ict_loss(f, x, key, 300, DISC),
        "order": epoch_order(5, 3, 101),
    }
    for name, objective in OBJECTIVES.items():
        draws = objective.draw(key, x.shape, 300)
        found[name] = [draws]
        if objective.target_decay is not None:
            found[name] += [objective.target_decay(300)]
        if objective.init_loss_params is not None:
            found[name] += [objective.init_loss_params(key)]
        elif not objective.has_denoiser:
            found[name] += [objective.loss(f, x, draws)]
    return found


def test_seeds_mean_the_same_under_every_setting():
    expected = drawn()
    with contextlib.ExitStack() as settings:
        for setting in SETTINGS:
            settings.enter_context(setting())
        found = drawn()
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        assert leaf.dtype.itemsize == 4, jax.tree_util.keystr(path)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_seeds_become_keys_in_one_place():
    """Elsewhere the process-wide implementation would decide what a seed is."""
    files = (ROOT / "ict_jax").rglob("*.py")
    makers = re.compile(r"random\.(key|PRNGKey|normal|uniform|bits|split|permutation)\(")
    found = {p.name for p in files if makers.search(p.read_text().replace("np.random", ""))}
    assert found == {"randomness.py", "blocks.py"}  # the latter: an initialiser, given its key
