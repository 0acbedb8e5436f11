"""The scalars of a run from its TensorBoard events, of all its starts."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore

from ict_jax.runtime.storage import failures, is_remote

Curve = dict[int, float]
"""Step to value, steps ascending."""

FRAME_BYTES = 16  # around each record: its length and two checksums


def read_scalars(
    files: Iterable[epath.Path], starts: Sequence[dict[str, Any]], notes: list[str]
) -> dict[str, Curve]:
    """The curve of each tag; where a resumed run repeated steps, the later file's values.

    Args:
      files: of events, in a bucket too.
      starts: of the run, oldest first, as in `provenance.read_starts`.
      notes: one is added for each file that cannot be read to its end.
    """
    read: list[dict[str, Curve]] = []
    for file in sorted(files, key=_age):
        try:
            with _on_disk(file) as path:
                new, whole = _read(path)
        except failures() as error:
            notes.append(f"{file.name} cannot be read ({error}).")
            continue
        if not whole:
            notes.append(
                f"{file.name} ends within a record, as after a crash or while the run is still "
                "writing; it was read up to there."
            )
        read.append(new)
    curves: dict[str, Curve] = {}
    for new in sorted(read, key=lambda new: _order(new, starts)):
        for tag, curve in new.items():
            first = min(curve)
            before = {step: v for step, v in curves.get(tag, {}).items() if step < first}
            curves[tag] = before | dict(sorted(curve.items()))
    return curves


def _order(new: dict[str, Curve], starts: Sequence[dict[str, Any]]) -> tuple[int, int, int]:
    """Sorts files by their steps, if clocks may not be relied on: one was set back between starts.

    A file is of the last start that went on from the newest step before the first one logged.
    """
    times = [str(start.get("time")) for start in starts]
    logged = [step for curve in new.values() for step in curve]
    if not logged or (times and times == sorted(times)):
        return 0, 0, 0  # the order of the names stays
    steps = [step if isinstance(step := start.get("step"), int) else 0 for start in starts]
    before = [(step, place) for place, step in enumerate(steps) if step < min(logged)]
    return max(before, default=(0, 0))[1], min(logged), max(logged)


def _age(file: epath.Path) -> tuple[int, int, str]:
    """Sorts events.out.tfevents.SECONDS.HOST.PROCESS.NUMBER, whose host may have dots too."""
    parts = file.name.split(".")
    secs = parts[3] if len(parts) > 3 else ""
    return (
        int(secs) if secs.isdecimal() else 0,
        int(parts[-1]) if parts[-1].isdecimal() else 0,
        file.name,
    )


@contextlib.contextmanager
def _on_disk(file: epath.Path) -> Iterator[Path]:
    """The file itself, or a copy of one in a bucket."""
    if not is_remote(file):
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "events"
        copy.write_bytes(file.read_bytes())
        yield copy


def _read(path: Path) -> tuple[dict[str, Curve], bool]:
    """The scalars of one file up to the first damage, and whether there was none."""
    found: dict[str, Curve] = {}
    size, consumed = path.stat().st_size, 0
    with path.open("rb"):
        pass  # a file that cannot be opened is an OSError, whatever the loader makes of it
    with contextlib.suppress(DecodeError):
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            consumed += len(record) + FRAME_BYTES
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found, consumed >= size
