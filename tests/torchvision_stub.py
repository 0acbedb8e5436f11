"""A stand-in for torchvision, which needs a build of PyTorch of its own."""

import contextlib
import importlib.machinery
import importlib.util
import sys
from unittest import mock


@contextlib.contextmanager
def torchvision_stub():
    """Within it, packages that import torchvision and do not use it can be imported."""
    stubs = {}
    if importlib.util.find_spec("torchvision") is None:
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            stub = mock.MagicMock()
            stub.__spec__ = importlib.machinery.ModuleSpec("torchvision" + name, None)
            stubs["torchvision" + name] = stub
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:  # diffusers, in the same process, would take it for the real one
            del sys.modules[name]
