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
"""In so many parts samples are kept; an interruption costs at most the one being drawn."""


class Collected(NamedTuple):
    """Features, logits if the extractor has them, and images, of n examples."""

    features: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n classes"] | None
    images: UInt8[np.ndarray, "n h w c"] | None


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

    Parts that are there already, from a run that was interrupted, are read; damaged ones are drawn
    again.

    Args:
      batches: `batches(start, stop)` draws the samples from start to stop, a batch at a time.
      extract: of their features.
      count: number of samples.
      directory: for the parts alone; None: they are not kept.
      keep_images: whether the images are among what is returned and kept.
      on_progress: called with how many are done, and of how many.

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
    edges = np.unique(np.linspace(0, count, PARTS + 1).astype(int))
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        path = directory / f"part_{number}.npz"
        part = _load(path, int(stop - start), keep_images)
        there = all_processes(part is not None)  # otherwise all take part in drawing it
        if part is None or not there:
            part = draw(int(start), int(stop))
            _save(path, part)
        parts.append(part)
    return concatenate(parts)


def concatenate(parts: Sequence[Collected]) -> Collected:
    """All examples of some parts."""

    def join(arrays: list) -> Any:
        return None if arrays[0] is None else np.concatenate(arrays)

    return Collected(*(join(list(arrays)) for arrays in zip(*parts, strict=True)))


def as_npz(arrays: dict[str, Any]) -> bytes:
    """The content of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_npz(
    path: epath.Path, names: set[str], *, optional: frozenset[str] = frozenset()
) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file, whose checksums are verified.

    Args:
      path: of the file.
      names: of all arrays.
      optional: of arrays that may be missing.

    Returns:
      None if it is not there; or, which is said, if it is damaged or has other names.
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


def _save(path: epath.Path, part: Collected) -> None:
    """By the first process, whole or not at all; the others wait for it."""
    if is_main():
        write_at_once(path, as_npz({k: v for k, v in part._asdict().items() if v is not None}))
    wait_for_all("part of the samples")


def _load(path: epath.Path, count: int, keep_images: bool) -> Collected | None:
    """A part of so many examples; None if it is not there or cannot be read."""
    names = {"features", "logits", *(["images"] if keep_images else [])}
    arrays = read_npz(path, names, optional=frozenset({"logits"}))
    if arrays is None or len(arrays["features"]) != count:
        return None
    return Collected(arrays["features"], arrays.get("logits"), arrays.get("images"))


class FeatureExtractor:
    """`extract(images)` computes features on all devices."""

    def __init__(self, extractor: Extractor, mesh: Mesh, batch_size: int = 256):
        """Prepare a program for `batch_size` images at once, rounded up to the devices."""
        whole, cut = replicated(mesh), batch_sharding(mesh)
        self.extractor = extractor
        self._size = -(-batch_size // mesh.size) * mesh.size
        self._weights = jax.device_put(extractor.weights, whole)

        def apply(weights: Any, images: Array) -> Any:
            images = jax.lax.with_sharding_constraint(images, cut)  # each process has them whole
            return extractor.apply(weights, images)

        self._apply = jax.jit(apply, out_shardings=whole)

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> Collected:
        """Features and logits of images, which are kept beside them."""
        parts = []
        for start in range(0, len(images), self._size):
            part = images[start : start + self._size]
            # The last part is filled up, so that every part has the compiled shape.
            filling = part[-1:].repeat(self._size - len(part), axis=0)
            found = self._apply(self._weights, np.concatenate([part, filling]))
            logits = None if found.logits is None else np.asarray(found.logits)[: len(part)]
            parts.append(Collected(np.asarray(found.features)[: len(part)], logits, part))
        return concatenate(parts)


def image_batches(
    data: Examples, index: np.ndarray, size: int
) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
    """The images of some examples, `size` at a time."""
    for start in range(0, len(index), size):
        yield data.read(index[start : start + size]).images


def content_hash(data: Examples) -> str:
    """SHA-256 of all images of a set in their order, with their shape."""
    digest = hashlib.sha256(repr((data.size, *data.image_shape)).encode())
    for images in image_batches(data, np.arange(data.size), 10_000):
        digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()
