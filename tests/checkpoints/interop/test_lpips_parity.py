"""LPIPS beside the package of its authors, with random weights: distances and gradients.

Needs PyTorch, and lpips, which can be installed without its dependencies.
"""

import importlib.util
import re
from unittest import mock

import jax
import numpy as np
import pytest

from ict_jax.checkpoints.interop.lpips import read_lpips
from ict_jax.models import LPIPS
from tests.torch_files import zip_bytes
from tests.torchvision_stub import torchvision_stub

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lpips") is None:
    pytest.skip("could not import 'lpips'", allow_module_level=True)

with torchvision_stub():
    import lpips

WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
SIZE = 24


def vgg16(pooling):
    """The convolutions of VGG16 with random weights, layer for layer as in torchvision."""
    layers, before = [], 3
    for width in WIDTHS:
        if width == "M":
            pool = {"max": torch.nn.MaxPool2d, "average": torch.nn.AvgPool2d}[pooling]
            layers.append(pool(2, 2))
            continue
        layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU()]
        torch.nn.init.kaiming_normal_(layers[-2].weight)
        torch.nn.init.normal_(layers[-2].bias, std=0.1)
        before = width
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(*layers)
    return network


@pytest.fixture(scope="module", params=["max", "average"])
def networks(request, tmp_path_factory):
    """The original with random weights, and ours with the same, through files."""
    torch.manual_seed(0)
    network = vgg16(request.param)
    with mock.patch.object(lpips.pretrained_networks.tv, "vgg16", return_value=network):
        original = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    for layer in original.lins:
        torch.nn.init.uniform_(layer.model[1].weight)
    directory = tmp_path_factory.mktemp("lpips")
    linear = {k: v for k, v in original.state_dict().items() if re.match(r"lin\d", k)}
    for name, state in {"vgg": network.state_dict(), "linear": linear}.items():
        arrays = {key: value.numpy() for key, value in state.items()}
        (directory / name).write_bytes(zip_bytes(arrays))
    params = read_lpips(str(directory / "vgg"), str(directory / "linear"))
    return original.double(), LPIPS(SIZE, request.param), params


def test_distances_and_gradients(networks):
    """In float64: in float32, rounding decides which of two near features is the larger."""
    original, ours, params = networks
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (1, 16, 16, 3))
    b = a + rng.uniform(-0.3, 0.3, a.shape)
    x, y = (torch.tensor(v.transpose(0, 3, 1, 2)).requires_grad_() for v in (a, b))
    theirs = original(*(torch.nn.functional.interpolate(v, SIZE, mode="bilinear") for v in (x, y)))
    theirs.sum().backward()
    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, params)

        def total(a, b, params):  # 118 MB, no constants to be folded
            distances = ours.apply({"params": params}, a, b)
            return distances.sum(), distances

        gradient, found = jax.jit(jax.grad(total, has_aux=True))(a, b, params)
    expected = theirs.detach().numpy().ravel()
    assert expected.min() > 0.01 and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-7)  # their constants are float32
    expected = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, atol=1e-6 * np.abs(expected).max())
