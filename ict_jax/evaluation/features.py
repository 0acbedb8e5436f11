"""Features of samples and of real images."""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from ict_jax.data import Examples
from ict_jax.evaluation.extractors import Extractor
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import all_processes, is_main, wait_for_all
from ict_jax.runtime.storage import write_at_once
from ict_jax.training.parallel import batch_sharding, replicated

PARTS = 10
"""Files in which samples are kept; an interruption costs at most the part being drawn."""


class Collected(NamedTuple):
    """Features, logits if the extractor has them, and images, of n examples."""

    features: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n classes"] | None = None
    images: UInt8[np.ndarray, "n h w c"] | None = None


def collect_samples(
    batches: Callable[[int, int], Iterable[UInt8[np.ndarray, "b h w c"]]],
    extract: Callable[[UInt8[np.ndarray, "n h w c"]], Collected],
    count: int,
    *,
    directory: epath.Path | None = None,
    keep_images: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Collected:
    """Draw samples and extract their features, in `PARTS` parts that are each kept in a file.

    Parts that an interrupted run left are read; damaged ones are drawn again.

    Args:
      batches: `batches(start, stop)` yields the samples from start to stop, a batch at a time.
      extract: feature extractor.
      count: number of samples.
      directory: directory for the parts alone; None: they are not kept.
      keep_images: whether the images are returned and kept too.
      on_progress: called with the number done and the total.

    Raises:
      Diverged: a sample is not finite.
      NotSaved: a part cannot be written.
    """

    def draw(start: int, stop: int) -> Collected:
        drawn, done = [], start
        for images in batches(start, stop):
            found = extract(images)
            drawn.append(found if keep_images else found._replace(images=None))
            done += len(images)
            on_progress(done, count)
        return concatenate(drawn)

    if directory is None:
        return draw(0, count)
    edges = np.linspace(0, count, PARTS + 1).astype(int)
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise(np.unique(edges).tolist())):
        path = directory / f"part_{number}.npz"
        part = _read_part(path, stop - start, keep_images)
        in_all = all_processes(part is not None)  # otherwise all take part in drawing it
        if part is None or not in_all:
            part = draw(start, stop)
            if is_main():
                arrays = {k: v for k, v in part._asdict().items() if v is not None}
                write_at_once(path, encode_npz(arrays))
            wait_for_all("part of the samples")
        parts.append(part)
    return concatenate(parts)


def concatenate(parts: Sequence[Collected]) -> Collected:
    """Concatenate the examples of several parts."""
    return Collected(
        *(
            None if arrays[0] is None else np.concatenate(arrays)
            for arrays in zip(*parts, strict=True)
        )
    )


def encode_npz(arrays: dict[str, Any]) -> bytes:
    """Encode arrays as the content of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_npz(
    path: epath.Path, names: set[str], *, optional: frozenset[str] = frozenset()
) -> dict[str, np.ndarray] | None:
    """Read an .npz file and verify its checksums.

    Args:
      path: path of the file.
      names: names of all arrays.
      optional: names that may be missing.

    Returns:
      The arrays by name; None if the file is missing, or, with a warning, if it is damaged or has
      other names.
    """
    try:
        with path.open("rb") as file, np.load(file) as found:
            arrays = dict(found)
        wrong: Any = names.symmetric_difference(arrays) - optional
    except FileNotFoundError:
        return None
    except Exception as error:  # a dozen kinds, from zipfile to NumPy
        arrays, wrong = {}, type(error).__name__
    if wrong:
        say(f"WARNING: {path} is damaged ({wrong}) and is made again")
    return None if wrong else arrays


def _read_part(path: epath.Path, count: int, keep_images: bool) -> Collected | None:
    names = {"features", "logits", *(["images"] if keep_images else [])}
    arrays = read_npz(path, names, optional=frozenset({"logits"}))
    if arrays is None or len(arrays["features"]) != count:
        return None
    return Collected(**arrays)


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
