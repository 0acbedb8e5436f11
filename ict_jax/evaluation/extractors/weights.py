"""Weights of pretrained networks: found, verified, and kept as safetensors from the first use on.

The FID network's weights are no part of this project: the user gets the file, and names it.
"""

import os
from pathlib import Path

import safetensors
import safetensors.numpy

from ict_jax.checkpoints.interop.arrays import Shapes, arrays_digest, check_arrays, file_digest
from ict_jax.checkpoints.interop.torch_file import Named, read_torch_file
from ict_jax.core.errors import ArgumentError, require
from ict_jax.runtime.console import not_essential, say
from ict_jax.runtime.storage import cache_directory, write_at_once

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


def _another(path: Path, digest: str) -> str:
    size = path.stat().st_size
    found = f"{path} is {OTHERS.get(digest[:8], 'not the FID network')}"
    if size < BYTES and digest[:8] not in OTHERS:
        found += ", or is cut off"
    return f"{found}: SHA-256 {digest[:8]}..., {size:,} bytes, expected {SHA256[:8]}...; {WHERE}."


def _kept_at(digest: str) -> Path:
    return cache_directory("weights") / f"{INCEPTION}-{digest[:8]}.safetensors"


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
