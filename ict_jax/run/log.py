"""What a run reports: averages, rates, and the stop on NaN."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from etils import epath

from ict_jax.core.errors import Diverged, require
from ict_jax.run.writers import EventWriter, MetricWriter, ProgressWriter
from ict_jax.runtime.console import say
from ict_jax.runtime.processes import is_main
from ict_jax.training.step import Metrics


class RunLog:
    """Turns windows of metrics into reports, and stops a run that has diverged."""

    def __init__(
        self,
        workdir: epath.Path,
        total_steps: int,
        batch_size: int,
        *,
        every_steps: int = 100,
        samples_every_steps: int = 5000,
    ):
        """Opens the writers.

        Args:
          workdir: where the TensorBoard events go.
          total_steps: K, for the time left.
          batch_size: images per step.
          every_steps: steps between reports, each the average over the steps since the last.
          samples_every_steps: steps between sample grids; there is always one at the end.

        Raises:
          ArgumentError: a number below 1.
        """
        require(every_steps >= 1, f"logging.every_steps={every_steps} must be at least 1.")
        require(
            samples_every_steps >= 1,
            f"logging.samples_every_steps={samples_every_steps} must be at least 1.",
        )
        self.every_steps = every_steps
        self.samples_every_steps = samples_every_steps
        self._batch_size = batch_size
        self._writers: list[MetricWriter] = []
        if is_main():
            self._writers = [ProgressWriter(total_steps), EventWriter(workdir)]

    def start_clock(self, step: int, *, peak_steps_per_sec: float | None = None) -> None:
        """Rates count from here.

        Args:
          step: the last finished one.
          peak_steps_per_sec: if the devices did nothing but the step's products and convolutions,
            at their peak; None if that is not known.
        """
        self._clock = (step, time.monotonic())
        self._peak_steps_per_sec = peak_steps_per_sec

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time within it does not count for the rates."""
        started = time.monotonic()
        yield
        self._clock = (self._clock[0], self._clock[1] + time.monotonic() - started)

    def report(self, step: int, window: Metrics, num_scales: int | None, last_good: str) -> None:
        """Fetches and writes the averages of a window that ends with `step`.

        N is None where the objective has no levels.

        Raises:
          Diverged: as `check_finite`.
        """
        scalars = check_finite(step, window, last_good)
        now = time.monotonic()
        steps_per_sec = (step - self._clock[0]) / max(now - self._clock[1], 1e-9)
        self._clock = (step, now)
        peak = self._peak_steps_per_sec
        utilisation = {} if peak is None else {"perf/utilisation": steps_per_sec / peak}
        self._write(
            step,
            {
                **{f"train/{name}": value for name, value in scalars.items()},
                **({} if num_scales is None else {"train/num_scales": num_scales}),
                "perf/steps_per_sec": steps_per_sec,
                "perf/images_per_sec": steps_per_sec * self._batch_size,
                **utilisation,
            },
        )

    def score(self, step: int, scores: Mapping[str, float]) -> None:
        """Writes the scores of an evaluation during training."""
        say(f"step {step:>7,}  " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
        self._write(step, {f"eval/{k}": v for k, v in scores.items()})

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.write_scalars(step, scalars)

    def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes pictures uint8 [h, w, 3]."""
        for writer in self._writers:
            writer.write_images(step, {f"samples/{k}": v for k, v in pictures.items()})

    def flush(self) -> None:
        """Returns when everything is written, to a bucket too."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Flushes everything."""
        for writer in self._writers:
            writer.close()


def check_finite(step: int, window: Metrics, last_good: str) -> dict[str, float]:
    """The window's averages, those over no example left out.

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
