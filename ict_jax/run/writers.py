"""Writers of a run's metrics: lines on the console, TensorBoard events."""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ict_jax.evaluation.grids import encode_png
from ict_jax.runtime.console import best_effort, format_time_left, say
from ict_jax.runtime.storage import is_remote

UPLOAD_SECS = 120  # between uploads of TensorBoard events to a bucket
UPLOAD_BYTES = 8 * 2**20  # from which an event file in a bucket is left alone and a new one begun


class EventWriter:
    """Writer of TensorBoard events, without TensorFlow.

    Events that cannot be written, as on a full disk, are lost, and a new file is begun. Since
    files in a bucket cannot be appended to, a growing one is uploaded again until it is large.
    """

    def __init__(self, directory: epath.Path):
        self._directory = directory
        self._writer: EventFileWriter | None = None
        self._local = tempfile.TemporaryDirectory() if is_remote(directory) else None
        self._uploaded = time.monotonic()

    def _add(self, step: int, values: list[Summary.Value]) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        with self._new_file_on_failure():
            if self._writer is None:
                where = self._directory if self._local is None else self._local.name
                self._writer = EventFileWriter(str(where))
            self._writer.add_event(event)
        if time.monotonic() - self._uploaded > UPLOAD_SECS:
            self._upload()

    def _upload(self) -> None:
        self._uploaded = time.monotonic()
        writer = self._writer
        if self._local is None or writer is None:
            return
        with self._new_file_on_failure():
            writer.flush()
            for file in Path(self._local.name).iterdir():
                (self._directory / file.name).write_bytes(file.read_bytes())
                if file.stat().st_size > UPLOAD_BYTES:
                    writer.close()
                    self._writer = None
                    file.unlink()

    @contextlib.contextmanager
    def _new_file_on_failure(self) -> Iterator[None]:
        written = False
        with best_effort("TensorBoard events"):
            yield
            written = True
        if not written:
            self._writer = None

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write one value per name."""
        self._add(step, [Summary.Value(tag=k, simple_value=float(v)) for k, v in scalars.items()])

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Write one uint8 image [h, w, 3] per name."""
        values = []
        for name, pixels in images.items():
            height, width = pixels.shape[:2]
            image = Summary.Image(height=height, width=width, colorspace=3)
            image.encoded_image_string = encode_png(pixels)
            values.append(Summary.Value(tag=name, image=image))
        self._add(step, values)

    def flush(self) -> None:
        """Wait until everything is on disk."""
        with self._new_file_on_failure():
            if self._writer is not None:
                self._writer.flush()
        self._upload()

    def close(self) -> None:
        """Flush and close the file."""
        self._upload()
        with self._new_file_on_failure():
            if self._writer is not None:
                self._writer.close()
        if self._local is not None:
            self._local.cleanup()


class ProgressWriter:
    """Printer of one line per report of training: step, N, loss, images/s, time left."""

    def __init__(self, total_steps: int):
        self._total_steps = total_steps

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Print the report of a step."""
        rate = scalars["perf/steps_per_sec"]
        left = format_time_left(self._total_steps - step, rate)
        share, levels = scalars.get("perf/utilisation"), scalars.get("train/num_scales")
        say(
            f"step {step:>7,}/{self._total_steps:,}  "
            + ("" if levels is None else f"N {levels:>4}  ")
            + f"loss {scalars['train/loss']:8.4f}  "
            f"{scalars['perf/images_per_sec']:>7,.0f} images/s  "
            + ("" if share is None else f"{share:.0%} of peak  ")
            + left
        )
