"""The scalars of a run, read from the TensorBoard events of all its starts."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore

from ict_jax.runtime.storage import io_errors, is_remote

Curve = dict[int, float]
"""Value by step, steps ascending."""

FRAME_BYTES = 16  # around each record: its length and two checksums


def read_scalars(
    files: Iterable[epath.Path], starts: Sequence[dict[str, Any]], notes: list[str]
) -> dict[str, Curve]:
    """Read the curve of each tag; where a resumed run repeated steps, later files win.

    Args:
      files: event files, on a disk or in a bucket.
      starts: starts of the run, oldest first, as in `provenance.read_starts`.
      notes: list to which a sentence is added for each file that cannot be read to its end.
    """
    read: list[dict[str, Curve]] = []
    for file in sorted(files, key=_name_order):
        try:
            with _local_copy(file) as path:
                scalars, complete = _read_file(path)
        except io_errors() as error:
            notes.append(f"{file.name} cannot be read ({error}).")
            continue
        if not complete:
            notes.append(
                f"{file.name} ends within a record, as after a crash or while the run is still "
                "writing; it was read up to there."
            )
        read.append(scalars)
    curves: dict[str, Curve] = {}
    for scalars in sorted(read, key=lambda scalars: _start_order(scalars, starts)):
        for tag, curve in scalars.items():
            first = min(curve)
            before = {step: v for step, v in curves.get(tag, {}).items() if step < first}
            curves[tag] = before | dict(sorted(curve.items()))
    return curves


def _start_order(
    scalars: dict[str, Curve], starts: Sequence[dict[str, Any]]
) -> tuple[int, int, int]:
    """Return a sort key from the logged steps, used if a clock was set back between starts.

    A file belongs to the last start that resumed from the newest step before its first one.
    """
    times = [str(start.get("time")) for start in starts]
    logged = [step for curve in scalars.values() for step in curve]
    if not logged or (times and times == sorted(times)):
        return 0, 0, 0  # keeps the order of the names
    steps = [step if isinstance(step := start.get("step"), int) else 0 for start in starts]
    before = [(step, index) for index, step in enumerate(steps) if step < min(logged)]
    return max(before, default=(0, 0))[1], min(logged), max(logged)


def _name_order(file: epath.Path) -> tuple[int, int, str]:
    """Return a sort key for events.out.tfevents.SECONDS.HOST.PROCESS.NUMBER; HOST may have dots."""
    parts = file.name.split(".")
    secs, number = parts[3] if len(parts) > 3 else "", parts[-1]
    return (
        int(secs) if secs.isdecimal() else 0,
        int(number) if number.isdecimal() else 0,
        file.name,
    )


@contextlib.contextmanager
def _local_copy(file: epath.Path) -> Iterator[Path]:
    """Yield the file itself, or a copy if it is in a bucket."""
    if not is_remote(file):
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "events"
        copy.write_bytes(file.read_bytes())
        yield copy


def _read_file(path: Path) -> tuple[dict[str, Curve], bool]:
    """Read scalars up to the first damage; also return whether there was none."""
    scalars: dict[str, Curve] = {}
    size, consumed = path.stat().st_size, 0
    with path.open("rb"):
        pass  # raises an OSError if the file cannot be opened, which the loader may not
    with contextlib.suppress(DecodeError):
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            consumed += len(record) + FRAME_BYTES
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars, consumed >= size
