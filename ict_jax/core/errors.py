"""Errors that stop a run: a bad argument, divergence, a failed write."""

from typing import Any


class ArgumentError(ValueError):
    """An argument breaks a rule.

    The message is one sentence: what was got, what was expected, what to do. The commands
    print it without a traceback.
    """


class Diverged(RuntimeError):
    """A loss, gradient, parameter or sample is NaN or infinite; the message is one sentence."""


class NotSaved(RuntimeError):
    """A result cannot be written, on a full disk for instance; the message is one sentence."""


def require(ok: bool, message: str) -> None:
    """Raise `ArgumentError(message)` unless `ok`."""
    if not ok:
        raise ArgumentError(message)


def require_uint8(images: Any) -> None:
    """Raise `ArgumentError` unless images, of NumPy or JAX, are uint8 and so not yet scaled."""
    require(
        images.dtype == "uint8",
        f"images have type {images.dtype}, expected uint8, which are scaled to [-1, 1] here; for x "
        "in [-1, 1] use ((x + 1) * 127.5).round().astype('uint8').",
    )
