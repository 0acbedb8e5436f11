"""Features of samples and of real images."""

import hashlib
import io
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from ict_jax.data import Examples
from ict_jax.evaluation.extractors import Extractor
from ict_jax.runtime.console import say
from ict_jax.training.parallel import batch_sharding, replicated


class Collected(NamedTuple):
    """Features, logits if the extractor has them, and images, of n examples."""

    features: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n classes"] | None = None
    images: UInt8[np.ndarray, "n h w c"] | None = None


def concatenate(parts: Sequence[Collected]) -> Collected:
    """Concatenate the examples of several parts."""
    fields = zip(*parts, strict=True)
    joined: list[Any] = [None if each[0] is None else np.concatenate(each) for each in fields]
    return Collected(*joined)


def encode_npz(arrays: dict[str, Any]) -> bytes:
    """Encode arrays as the content of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_npz(
    path: epath.Path, names: Set[str], *, optional: Set[str] = frozenset()
) -> dict[str, np.ndarray] | None:
    """Read an .npz file of arrays with the given names, of which the optional may be missing.

    Returns:
      The arrays by name; None if the file is missing, or, with a warning, if it is damaged or has
      other names.
    """
    try:
        with path.open("rb") as file, np.load(file) as found:
            arrays = dict(found)
        wrong: Any = (names ^ arrays.keys()) - optional
    except FileNotFoundError:
        return None
    except Exception as error:  # a dozen kinds, from zipfile to NumPy
        arrays, wrong = {}, type(error).__name__
    if wrong:
        say(f"WARNING: {path} is damaged ({wrong}) and is made again")
    return None if wrong else arrays


class FeatureExtractor:
    """`extract(images)` computes features on all devices."""

    def __init__(self, extractor: Extractor, mesh: Mesh, batch_size: int = 256):
        """Prepare a program for `batch_size` images, rounded up to a multiple of the devices."""
        everywhere, sharded = replicated(mesh), batch_sharding(mesh)
        self.extractor = extractor
        self._batch_size = -(-batch_size // mesh.size) * mesh.size
        self._weights = jax.device_put(extractor.weights, everywhere)

        def apply(weights: Any, images: Array) -> Any:
            # Every process passes all images.
            images = jax.lax.with_sharding_constraint(images, sharded)
            return extractor.apply(weights, images)

        self._apply = jax.jit(apply, out_shardings=everywhere)

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Collected:
        """Return features, logits and the images themselves."""
        parts = []
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            # Pad the last batch to the compiled shape.
            padding = part[-1:].repeat(self._batch_size - len(part), axis=0)
            found = self._apply(self._weights, np.concatenate([part, padding]))
            logits = None if found.logits is None else np.asarray(found.logits)[: len(part)]
            parts.append(Collected(np.asarray(found.features)[: len(part)], logits, part))
        return concatenate(parts)


def image_batches(data: Examples, batch_size: int) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
    """Yield all images of a set in order, a batch at a time."""
    for start in range(0, data.size, batch_size):
        yield data.read(np.arange(start, min(start + batch_size, data.size))).images


def content_hash(data: Examples) -> str:
    """Compute the SHA-256 of all images of a set in order, with their shape."""
    digest = hashlib.sha256(repr((data.size, *data.image_shape)).encode())
    for images in image_batches(data, 10_000):
        digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()
