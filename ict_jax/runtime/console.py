"""What is said on the console."""

import contextlib
import time
from collections.abc import Callable, Iterator

from ict_jax.core.errors import NotSaved
from ict_jax.runtime.storage import failures

TOLD_EVERY_SECS = 15


def format_secs(secs: float) -> str:
    """3725 -> '1h02m'; below an hour '2m05s'."""
    minutes, seconds = divmod(round(secs), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


_silent = False


def silence() -> None:
    """Lets `say` print nothing from here on: another process of the job does."""
    global _silent
    _silent = True


@contextlib.contextmanager
def not_essential(what: str) -> Iterator[None]:
    """A failure to write in it, on a full disk for instance, is said and no more."""
    try:
        yield
    except (*failures(), NotSaved) as error:
        say(f"WARNING: {what} could not be written ({error}); going on without")


def say(text: str) -> None:
    """Prints a line of progress at once; where that is impossible, on a full disk, it is lost."""
    if not _silent:
        with contextlib.suppress(OSError):
            print(text, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Says now and then how many are done, how fast, and how long the rest takes."""
    started = told = time.monotonic()
    first: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal told, first
        first = done if first is None else first
        now = time.monotonic()
        if now - told < TOLD_EVERY_SECS and done < total:
            return
        told = now
        rate = done / (now - started)
        left = format_secs((total - done) / rate)
        say(f"{what}: {done:>7,}/{total:,}  {rate:,.1f} images/s  {left} left")

    return tell
