"""Weights of the FID network: found, verified, and cached as safetensors on first use.

They are not part of this project: the user downloads the file and names it.
"""

import os
from pathlib import Path

import safetensors
import safetensors.numpy

from ict_jax.checkpoints.interop.arrays import (
    Named,
    Shapes,
    arrays_digest,
    check_arrays,
    file_digest,
)
from ict_jax.checkpoints.interop.torch_file import read_torch_file
from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime.console import best_effort, say
from ict_jax.runtime.storage import cache_directory, write_atomically

INCEPTION = "inception-2015-12-05"
INCEPTION_WEIGHTS = "ICT_INCEPTION_WEIGHTS"
"""Environment variable that names the file of the FID network's weights."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BYTES = 95_628_359
"""Checksum and size of the one file that torch-fidelity and pytorch-fid offer under two names."""

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
"""Files often mistaken for it, by the first digits of their SHA-256, which end their names."""

DOWNLOAD = f"get {TORCH_FIDELITY} ({BYTES:,} bytes; {PYTORCH_FID} is the same file)"


def load_inception(
    path: str | os.PathLike | None, shapes: Shapes, *, check: bool = True
) -> tuple[Named, str]:
    """Load the FID network's arrays by torch-fidelity's names, and the SHA-256 of their file.

    The first call converts the file to safetensors in ~/.cache/ict_jax/weights. Later calls only
    verify the file, or use the copy alone if no path is given. A damaged copy is replaced.

    Args:
      path: the .pth file; default: the one named by ICT_INCEPTION_WEIGHTS, then the copy of an
        earlier conversion.
      shapes: shapes of all arrays by name.
      check: whether it must be the published file; False for random weights, as in tests.

    Raises:
      ArgumentError: the file is missing, damaged, another one, or its names or shapes differ.
    """
    given = path or os.environ.get(INCEPTION_WEIGHTS)
    if not given:
        arrays = _read_cached(SHA256)
        if arrays is None:
            raise ArgumentError(
                f"the FID network's weights were not found; {DOWNLOAD}, then pass "
                f"--inception_weights=PATH or set {INCEPTION_WEIGHTS}=PATH."
            )
        return arrays, SHA256
    source = Path(given).expanduser()
    digest = file_digest(source, f"{DOWNLOAD}, and give its path")
    require(not check or digest == SHA256, _wrong_file(source, digest))
    arrays = _read_cached(digest)
    if arrays is None:
        arrays = read_torch_file(source)
        # Counts of training steps, which early versions of PyTorch did not save.
        arrays = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
        arrays = check_arrays(arrays, shapes, str(source))
        path, metadata = _cache_path(digest), _metadata(arrays, digest)
        with best_effort(f"the converted weights {path}"):
            write_atomically(path, safetensors.numpy.save(arrays, metadata))
    return arrays, digest


def _wrong_file(path: Path, digest: str) -> str:
    size = path.stat().st_size
    found = f"{path} is {OTHERS.get(digest[:8], 'not the FID network')}"
    if size < BYTES and digest[:8] not in OTHERS:
        found += ", or is cut off"
    return (
        f"{found}: SHA-256 {digest[:8]}..., {size:,} bytes, expected {SHA256[:8]}...; {DOWNLOAD}."
    )


def _cache_path(digest: str) -> Path:
    return cache_directory("weights") / f"{INCEPTION}-{digest[:8]}.safetensors"


def _metadata(arrays: Named, digest: str) -> dict[str, str]:
    return {"source": digest, "arrays": arrays_digest(arrays)}


def _read_cached(digest: str) -> Named | None:
    """Read the arrays converted from the file with this digest; None if missing or damaged."""
    path = _cache_path(digest)
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError):
        metadata, arrays = None, {}
    if metadata == _metadata(arrays, digest):
        return arrays
    say(f"{path} is damaged and not used")
    return None
