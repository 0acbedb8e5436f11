"""The four statistics beside torch-fidelity's, an implementation by others.

Needs PyTorch, and torch-fidelity, which can be installed without its dependencies.
"""

import importlib.util

import numpy as np
import pytest

from ict_jax.evaluation.metrics.frechet import frechet_distance, moments
from ict_jax.evaluation.metrics.inception_score import inception_score
from ict_jax.evaluation.metrics.kid import kernel_distance, kid
from ict_jax.evaluation.metrics.precision_recall import precision_recall
from tests.torchvision_stub import torchvision_stub

torch = pytest.importorskip("torch")
if importlib.util.find_spec("torch_fidelity") is None:
    pytest.skip("could not import 'torch_fidelity'", allow_module_level=True)


with torchvision_stub():
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

RNG = np.random.default_rng(0)


def correlated(n, d, offset=0.0):
    """Features with a spectrum that falls, as those of networks have."""
    basis = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0]
    return (RNG.standard_normal((n, d)) + offset) * np.arange(1, d + 1) ** -0.7 @ basis


def fidelity_fid(a, b):
    statistics = [metric_fid.fid_features_to_statistics(torch.tensor(x)) for x in (a, b)]
    return metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]


@pytest.mark.parametrize(
    ("n", "d", "dtype", "tolerance"),
    [
        (500, 64, np.float64, 1e-10),
        (2000, 256, np.float64, 1e-10),
        (60, 128, np.float64, 1e-6),  # theirs has roots of rounding errors
        (500, 64, np.float32, 1e-5),  # their means are in float32
        (2000, 256, np.float32, 1e-5),
    ],
)
def test_frechet_distance(n, d, dtype, tolerance):
    a, b = correlated(n, d).astype(dtype), correlated(n + 100, d, 0.3).astype(dtype)
    theirs = fidelity_fid(a, b)
    assert theirs > 0.1
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(theirs, rel=tolerance)


def test_kernel_distance_over_all():
    a, b = correlated(80, 32), correlated(80, 32, 0.5)
    theirs = metric_kid.kernel_mmd(a, b)
    assert theirs > 0.001
    assert kernel_distance(a, b) == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize("seed", [2020, 3])
def test_kid_over_the_same_subsets(seed):
    a, b = correlated(700, 128), correlated(500, 128, 0.2)
    options = {"kid_subsets": 30, "kid_subset_size": 100, "rng_seed": seed, "verbose": False}
    theirs = metric_kid.kid_features_to_metric(torch.tensor(a), torch.tensor(b), **options)
    ours = kid(a, b, subsets=30, size=100, seed=seed)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    std = theirs["kernel_inception_distance_std"]
    assert ours.standard_error * np.sqrt(30 - 1) == pytest.approx(std, rel=1e-10)


def test_kid_has_the_same_defaults():
    a, b = correlated(1200, 4), correlated(1100, 4, 0.2)
    theirs = metric_kid.kid_features_to_metric(torch.tensor(a), torch.tensor(b), verbose=False)
    assert kid(a, b).value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)


@pytest.mark.parametrize(("n", "splits"), [(1000, 10), (1003, 10), (17, 4), (50, 1)])
@pytest.mark.parametrize("seed", [None, 2020])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_inception_score(n, splits, seed, dtype):
    logits = (3 * RNG.standard_normal((n, 1008))).astype(dtype)
    theirs = metric_isc.isc_features_to_metric(
        torch.tensor(logits), splits, shuffle=seed is not None, rng_seed=seed
    )
    ours = inception_score(logits, splits=splits, seed=seed)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("save_cpu_ram", [False, True])
def test_precision_and_recall(k, save_cpu_ram):
    """Of powers of two of rows, since their shares are rounded to float32."""
    real, fake = correlated(512, 48), 0.9 * correlated(256, 48, 0.05)
    options = {"prc_neighborhood": k, "save_cpu_ram": save_cpu_ram, "verbose": False}
    theirs = metric_prc.prc_features_to_metric(torch.tensor(fake), torch.tensor(real), **options)
    assert 0.05 < theirs["recall"] < theirs["precision"] < 1
    ours = precision_recall(real, fake, k=k, block=200)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-10)
