"""Features of samples and of real images, computed where the images are."""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from ict_jax.data import Examples
from ict_jax.evaluation.extractors import Extractor
from ict_jax.evaluation.extractors.base import to_rgb
from ict_jax.evaluation.grids import to_uint8
from ict_jax.evaluation.sampler import Sampler, require_finite_samples
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import everywhere, is_main, wait_for_all
from ict_jax.runtime.storage import write_at_once
from ict_jax.training.parallel import batch_sharding, replicated
from ict_jax.training.state import Params

PARTS = 10
"""In so many parts samples are kept; an interruption costs at most the one being drawn."""


class Collected(NamedTuple):
    """Features, logits if the extractor has them, and images, of n examples."""

    features: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n classes"] | None
    images: UInt8[np.ndarray, "n h w c"] | None


def draw_and_extract(draw: Callable[..., Any], extractor: Extractor) -> Callable[..., Any]:
    """A sampler and an extractor as one function, to be compiled together.

    Args:
      draw: `draw(params, keys, labels, sigmas)` -> images in [-1, 1].
      extractor: of the features.

    Returns:
      `f((params, weights), keys, labels, sigmas)` -> images of `to_uint8`,
      what the extractor says of them, and whether each was finite.
    """

    def drawn(params: Any, keys: Array, labels: Array, sigmas: Array) -> Any:
        model, weights = params
        x = draw(model, keys, labels, sigmas)
        images = to_uint8(x)
        finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        return images, extractor.apply(weights, to_rgb(images)), finite

    return drawn


def collect_samples(
    sampler: Sampler,
    params: Params,
    extractor: Extractor,
    seeds: range,
    sigmas: Sequence[float],
    labels: np.ndarray | None,
    *,
    directory: epath.Path,
    keep_images: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[Collected]:
    """Draws and describes samples, in `PARTS` parts that are each kept in a file.

    Parts that are there already, from a run that was interrupted, are read; damaged ones are drawn
    again.

    Args:
      sampler: of `draw_and_extract`.
      params: averaged parameters.
      extractor: the same as the sampler's.
      seeds: one per image, cut evenly into the parts.
      sigmas: descending noise levels.
      labels: one class per seed, or None.
      directory: for the parts alone.
      keep_images: whether the images are among what is kept.
      told: called with how many are done, and of how many.

    Raises:
      Diverged: a sample is not finite.
      NotSaved: a part cannot be written.
    """
    edges = np.unique(np.linspace(0, len(seeds), PARTS + 1).astype(int))
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        path = directory / f"part_{number}.npz"
        part = _load(path, int(stop - start), keep_images)
        there = everywhere(part is not None)  # otherwise all take part in drawing it
        if part is None or not there:
            drawn = []
            batches = sampler.outputs(
                (params, extractor.weights),
                seeds[start:stop],
                sigmas,
                None if labels is None else labels[start:stop],
            )
            done = int(start)
            for images, (features, logits), finite in batches:
                require_finite_samples(finite)
                drawn.append(Collected(features, logits, images if keep_images else None))
                done += len(features)
                told(done, len(seeds))
            part = joined(drawn)
            _save(path, part)
        parts.append(part)
    return parts


def joined(parts: Sequence[Collected]) -> Collected:
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


class Describer:
    """`describer(batches)` says what an extractor does of real images, spread over the devices."""

    def __init__(self, extractor: Extractor, mesh: Mesh, batch_size: int):
        """Prepares a program for batches of up to `batch_size`, rounded up to the devices."""
        whole, cut = replicated(mesh), batch_sharding(mesh)
        self._size = -(-batch_size // mesh.size) * mesh.size
        self._weights = jax.device_put(extractor.weights, whole)

        def apply(weights: Any, images: Array) -> Any:
            images = jax.lax.with_sharding_constraint(images, cut)  # each process has them whole
            return extractor.apply(weights, to_rgb(images))

        self._apply = jax.jit(apply, out_shardings=whole)

    def __call__(self, batches: Iterable[UInt8[np.ndarray, "b h w c"]]) -> Iterator[Collected]:
        """Yields features and logits of each batch."""
        for images in batches:
            # A small batch is filled up, so that every batch has the compiled shape.
            filling = images[-1:].repeat(self._size - len(images), axis=0)
            found = self._apply(self._weights, np.concatenate([images, filling]))
            logits = None if found.logits is None else np.asarray(found.logits)[: len(images)]
            yield Collected(np.asarray(found.features)[: len(images)], logits, None)


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
