"""Reports of a run: averages, rates, and the stop on NaN."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from etils import epath

from ict_jax.core.errors import Diverged, require
from ict_jax.run.writers import EventWriter, ProgressWriter
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import is_main
from ict_jax.training.step import Metrics


class RunLog:
    """Writer of a run's metrics, scores and images; process 0 alone writes."""

    def __init__(
        self,
        workdir: epath.Path,
        total_steps: int,
        batch_size: int,
        *,
        every_steps: int = 100,
        samples_every_steps: int = 5000,
    ):
        """Open the event file.

        Args:
          workdir: directory for the TensorBoard events.
          total_steps: K, for the time left.
          batch_size: images per step.
          every_steps: steps between reports, each the average over the steps since the last.
          samples_every_steps: steps between sample grids; there is always one at the end.

        Raises:
          ArgumentError: a number below 1.
        """
        steps = {"every_steps": every_steps, "samples_every_steps": samples_every_steps}
        for name, value in steps.items():
            require(value >= 1, f"logging.{name}={value} must be at least 1.")
        self.every_steps = every_steps
        self.samples_every_steps = samples_every_steps
        self._batch_size = batch_size
        self._progress = ProgressWriter(total_steps)
        self._events = EventWriter(workdir) if is_main() else None

    def start_clock(self, step: int, *, peak_steps_per_sec: float | None = None) -> None:
        """Start measuring rates.

        Args:
          step: the last finished one.
          peak_steps_per_sec: rate at an MFU of 1; None if unknown.
        """
        self._clock = (step, time.monotonic())
        self._peak_steps_per_sec = peak_steps_per_sec

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent within from the rates."""
        started = time.monotonic()
        yield
        self._clock = (self._clock[0], self._clock[1] + time.monotonic() - started)

    def report(self, step: int, window: Metrics, num_scales: int | None, last_good: str) -> None:
        """Fetch and write the averages of the window that ends with `step`.

        N is None if the objective has no levels.

        Raises:
          Diverged: as `check_metrics`.
        """
        averages = check_metrics(step, window, last_good)
        now = time.monotonic()
        steps_per_sec = (step - self._clock[0]) / max(now - self._clock[1], 1e-9)
        self._clock = (step, now)
        scalars = {f"train/{name}": value for name, value in averages.items()}
        if num_scales is not None:
            scalars["train/num_scales"] = num_scales
        scalars["perf/steps_per_sec"] = steps_per_sec
        scalars["perf/images_per_sec"] = steps_per_sec * self._batch_size
        if self._peak_steps_per_sec is not None:
            scalars["perf/utilisation"] = steps_per_sec / self._peak_steps_per_sec
        if self._events is not None:
            self._progress.write_scalars(step, scalars)
            self._events.write_scalars(step, scalars)

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of an evaluation during training."""
        say(f"step {step:>7,}  " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
        if self._events is not None:
            self._events.write_scalars(step, {f"eval/{k}": v for k, v in scores.items()})

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Write images uint8 [h, w, 3]."""
        if self._events is not None:
            self._events.write_images(step, {f"samples/{k}": v for k, v in images.items()})

    def flush(self) -> None:
        """Wait until everything is written, to a bucket too."""
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        if self._events is not None:
            self._events.close()


def check_metrics(step: int, window: Metrics, last_good: str) -> dict[str, float]:
    """Return the window's averages, without those over no example.

    Raises:
      Diverged: one is NaN or infinite; names the steps and the last good checkpoint.
    """
    fetched = jax.device_get(window)
    means = {
        name: float(average.total) / int(average.count)
        for name, average in fetched.items()
        if average.count
    }
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        first = step - int(fetched["grad_norm"].count) + 1
        raise Diverged(
            f"{', '.join(bad[:2])} became NaN or infinite between steps {first:,} and {step:,}; "
            f"nothing was saved after {last_good}. Look at the data, or start a new --workdir with "
            "a lower optimizer.learning_rate, from that checkpoint with --init_from if it is good."
        )
    return means
