"""Progress lines and warnings on stdout."""

import contextlib
import time
from collections.abc import Callable, Iterator

from ict_jax.core.errors import NotSaved
from ict_jax.runtime.storage import io_errors

REPORT_EVERY_SECS = 15


def format_secs(secs: float) -> str:
    """Format 3725 as '1h02m' and 125 as '2m05s'."""
    minutes, seconds = divmod(round(secs), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def format_time_left(remaining: float, per_sec: float) -> str:
    """Format the time that the remaining items take at a rate, as '2m05s left'."""
    return f"{format_secs(remaining / per_sec)} left"


_silent = False


def silence() -> None:
    """Make `say` print nothing from now on, since another process of the job prints."""
    global _silent
    _silent = True


def say(text: str) -> None:
    """Print a line at once; drop it if stdout cannot be written to, as on a full disk."""
    if not _silent:
        with contextlib.suppress(OSError):
            print(text, flush=True)


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Turn a failure to write `what` into a warning."""
    try:
        yield
    except (*io_errors(), NotSaved) as error:
        say(f"WARNING: {what} could not be written ({error}); continuing without")


def progress_reporter(what: str) -> Callable[[int, int], None]:
    """Return `on_progress(done, total)`, which regularly prints count, rate and time left."""
    started = last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < REPORT_EVERY_SECS and done < total:
            return
        last = now
        rate = done / (now - started)
        left = format_time_left(total - done, rate)
        say(f"{what}: {done:>7,}/{total:,}  {rate:,.1f} images/s  {left}")

    return on_progress
