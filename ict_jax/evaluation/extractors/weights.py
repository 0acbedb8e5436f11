"""Weights of pretrained networks: found, verified, and kept as safetensors from the first use on.

The FID network's weights are no part of this project: the user gets the file, and names it.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ict_jax.caches import cache_directory
from ict_jax.console import not_essential, say
from ict_jax.core.errors import ArgumentError, require
from ict_jax.files import write_at_once
from ict_jax.torch_file import Named, read_torch_file

Shapes = Mapping[str, tuple[int, ...]]

INCEPTION = "inception-2015-12-05"
INCEPTION_WEIGHTS = "ICT_INCEPTION_WEIGHTS"
"""Environment variable: the file of the FID network's weights."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BYTES = 95_628_359
"""Of the one file that torch-fidelity and pytorch-fid offer under two names."""

TORCH_FIDELITY = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
PYTORCH_FID = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
OTHERS = {
    "1a9a5a14": "torchvision's Inception v3, with other weights",
    "0cc3c7bd": "torchvision's Inception v3, with other weights",
    "57934424": "EfficientNet-Lite0",
}
"""Files taken for it, by the first digits of their SHA-256, which end their names."""

WHERE = f"get {TORCH_FIDELITY} ({BYTES:,} bytes; {PYTORCH_FID} is the same file)"


def load_inception(
    path: str | os.PathLike | None, shapes: Shapes, *, check: bool = True
) -> tuple[Named, str]:
    """The arrays of the FID network by torch-fidelity's names, and the SHA-256 of their file.

    The first time, the file is converted to safetensors in ~/.cache/ict_jax/weights. After that
    it is only verified, or not needed at all where no path is given. A damaged copy is made again.

    Args:
      path: the .pth file; default: what the environment variable ICT_INCEPTION_WEIGHTS names,
        and then the copy of an earlier conversion.
      shapes: of all arrays by name.
      check: whether it must be the published file; False for random weights, as in tests.

    Raises:
      ArgumentError: the file is missing, another one, damaged, or not of these names and shapes.
    """
    given = path or os.environ.get(INCEPTION_WEIGHTS)
    if not given:
        kept = _read_kept(SHA256)
        if kept is None:
            raise ArgumentError(
                f"the FID network's weights are not there; {WHERE}, then pass "
                f"--inception_weights=PATH or set {INCEPTION_WEIGHTS}=PATH."
            )
        return kept, SHA256
    source = Path(given).expanduser()
    digest = file_digest(source, f"{WHERE}, and give its path")
    require(not check or digest == SHA256, _another(source, digest))
    kept = _read_kept(digest)
    if kept is None:
        arrays = read_torch_file(source)
        # Counts of training steps, which early versions of PyTorch did not save.
        arrays = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
        kept = check_arrays(arrays, shapes, str(source))
        _keep(kept, digest)
    return kept, digest


def check_arrays(arrays: Named, shapes: Shapes, what: str) -> Named:
    """The arrays, contiguous, if they are finite float32 of exactly these names and shapes.

    Args:
      arrays: by name.
      shapes: what is expected.
      what: names their origin in messages.

    Raises:
      ArgumentError: an array is missing, left over, of another shape or type, or not finite.
    """
    missing, extra = sorted(set(shapes) - set(arrays)), sorted(set(arrays) - set(shapes))
    require(
        not missing and not extra,
        f"{what} is of another network: {len(missing)} arrays are missing, first {missing[:3]}, "
        f"and {len(extra)} are left over, first {extra[:3]}; choose another file.",
    )
    for name, shape in shapes.items():
        array = arrays[name]
        require(
            array.shape == shape and array.dtype == np.float32,
            f"{name} in {what} has shape {array.shape} and type {array.dtype}, expected {shape} "
            "and float32; choose another file.",
        )
        require(
            bool(np.isfinite(array).all()),
            f"{name} in {what} has values that are NaN or infinite; get the file again.",
        )
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def file_digest(path: Path, advice: str) -> str:
    """SHA-256 of a file.

    Raises:
      ArgumentError: it cannot be read; `advice` ends the message.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror}); {advice}.") from error


def _another(path: Path, digest: str) -> str:
    size = path.stat().st_size
    found = f"{path} is {OTHERS.get(digest[:8], 'not the FID network')}"
    if size < BYTES and digest[:8] not in OTHERS:
        found += ", or is cut off"
    return f"{found}: SHA-256 {digest[:8]}..., {size:,} bytes, expected {SHA256[:8]}...; {WHERE}."


def _kept_at(digest: str) -> Path:
    return cache_directory("weights") / f"{INCEPTION}-{digest[:8]}.safetensors"


def arrays_digest(arrays: Named, told: str = "") -> str:
    """SHA-256 of names, shapes, types and numbers of arrays, and of a text that belongs to them."""
    total = hashlib.sha256(told.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].shape} {arrays[name].dtype} ".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _read_kept(digest: str) -> Named | None:
    """The arrays converted from the file of a digest; None where there are none, or damaged."""
    path = _kept_at(digest)
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError):
        told, arrays = {}, {}
    if told == {"source": digest, "arrays": arrays_digest(arrays)}:
        return arrays
    say(f"{path} is damaged and not used")
    return None


def _keep(arrays: Named, digest: str) -> None:
    """Writes the copy whole or not at all; processes that do so at once do not meet."""
    path = _kept_at(digest)
    told = {"source": digest, "arrays": arrays_digest(arrays)}
    with not_essential(f"the converted weights {path}"):
        write_at_once(path, safetensors.numpy.save(arrays, told))
