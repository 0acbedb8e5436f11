"""Changes that a fingerprint detects, and its independence of the sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ict_jax.training import parallel
from ict_jax.training.fingerprint import fingerprint, plain_sum

TREE = {
    "a": np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64),
    "b": np.arange(7, dtype=np.int32),
    "c": np.float32(0.5),
    "d": np.ones((3, 2), jnp.bfloat16),
    "e": np.array([True, False]),
}


def test_sums_are_those_of_integers():
    a = TREE["a"].view(np.uint32).astype(object).ravel()
    plain = sum(a) % 2**32
    weighted = sum(bits * (2 * place + 1) for place, bits in enumerate(a)) % 2**32
    np.testing.assert_array_equal(fingerprint({"a": TREE["a"]}), [plain, weighted])


def test_the_plain_sum_is_the_first_number():
    for tree in (TREE, [np.full(3, -1, np.int32)] * 2):
        assert plain_sum(tree) == parallel.fingerprint_of(jax.tree.map(jnp.asarray, tree))[0]


def test_a_bit_a_position_and_a_leaf_are_told_apart():
    original = parallel.fingerprint_of(jax.tree.map(jnp.asarray, TREE))

    def changed(name, change):
        array = np.array(TREE[name])
        change(array)
        return parallel.fingerprint_of(jax.tree.map(jnp.asarray, {**TREE, name: array}))

    def flip_lowest_bit(a):
        a.view(np.uint32)[3, 5] ^= 1

    def swap(a):
        a[[0, 1]] = a[[1, 0]]

    assert changed("a", lambda a: None) == original
    assert changed("a", flip_lowest_bit) != original
    assert changed("a", swap) != original
    assert changed("b", swap) != original
    assert changed("e", swap) != original
    assert parallel.fingerprint_of({"a": jnp.asarray(TREE["b"]), "b": jnp.asarray(TREE["e"])}) != (
        parallel.fingerprint_of({"a": jnp.asarray(TREE["e"]), "b": jnp.asarray(TREE["b"])})
    )


@pytest.mark.parametrize(("num_devices", "fsdp"), [(1, 1), (4, 1), (4, 4)])
def test_shardings_agree(num_devices, fsdp):
    mesh = parallel.make_mesh(num_devices=num_devices, fsdp=fsdp)
    tree = parallel.init_on_mesh(lambda: {**TREE, "key": jax.random.key(3)}, mesh)
    expected = fingerprint({**TREE, "key": jax.random.key(3)})
    assert parallel.fingerprint_of(tree) == expected.tolist()
