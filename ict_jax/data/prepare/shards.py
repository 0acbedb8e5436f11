"""Writing a set in shards: in parallel, resumable, and never half-done under its own name."""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from PIL import Image

from ict_jax.core.errors import ArgumentError
from ict_jax.data.prepare.sources import SourceImage
from ict_jax.runtime.console import format_secs, say

PICTURES = 5000
"""In a shard: what a process that is killed has to make again."""
REPORT_SECS = 5.0

Serialize = Callable[[str, io.BytesIO, int], bytes]
"""`serialize(name, png, label)` -> a record."""


class Task(NamedTuple):
    """One shard to write.

    Attributes:
      path: of the shard; what is known of it stands in `path` + ".json" once it is whole.
      made_from: hash of its pictures' names, labels and stamps.
      pictures: in order.
      size: height and width to make.
      serialize: makes the records; importable by another process.
    """

    path: Path
    made_from: str
    pictures: Sequence[SourceImage]
    size: int
    serialize: Serialize

    @property
    def note(self) -> Path:
        """Where the shard's `Written` is kept."""
        return self.path.with_name(self.path.name + ".json")


class Written(NamedTuple):
    """What is known of a whole shard: its task's hash, records, their bytes, files left out."""

    made_from: str
    count: int
    num_bytes: int
    bad: list[str]


def make_tasks(
    directory: Path,
    filename: Callable[[str, int, int], str],
    splits: Mapping[str, Sequence[SourceImage]],
    size: int,
    serialize: Serialize,
) -> dict[str, list[Task]]:
    """The shards of each split; `filename(split, index, number)` names them."""
    tasks = {}
    for split, pictures in splits.items():
        starts = range(0, len(pictures), PICTURES)
        tasks[split] = [
            Task(
                directory / filename(split, index, len(starts)),
                hash_sources({split: pictures[start : start + PICTURES]}, stamped=True),
                pictures[start : start + PICTURES],
                size,
                serialize,
            )
            for index, start in enumerate(starts)
        ]
    return tasks


def hash_sources(
    splits: Mapping[str, Sequence[SourceImage]], *, stamped: bool, **options: Any
) -> str:
    """A hash of the names, labels and order of pictures, and of options; with stamps or not."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for split, pictures in splits.items():
        digest.update(split.encode())
        for picture in pictures:
            stamp = picture.stamp() if stamped else ""
            digest.update(f"{picture.name}\0{picture.label}\0{stamp}\n".encode())
    return digest.hexdigest()


def write_shards(tasks: Sequence[Task], *, workers: int) -> None:
    """Writes the shards that are not yet written, in several processes, and reports progress.

    A shard is written again if one of its files was left out or has changed since.

    Args:
      tasks: the shards.
      workers: processes.

    Raises:
      ArgumentError: a process died.
    """
    notes = [read_note(task) for task in tasks]
    left = [t for t, note in zip(tasks, notes, strict=True) if note is None or note.bad]
    if not left:
        return
    total = sum(len(task.pictures) for task in tasks)
    done = total - sum(len(task.pictures) for task in left)
    if done:
        say(f"{done:,} of {total:,} images were made before")
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would break
    counter, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(
        min(workers, len(left)), context, _start_worker, (os.getpid(), counter, stop)
    ) as pool:
        try:
            with _without_ctrl_c():
                futures = [pool.submit(write_shard, task) for task in left]
            _wait_for(futures, counter, done, total)
        except BrokenProcessPool as error:
            raise ArgumentError(
                "a process that made images died, perhaps for lack of memory; run the same command "
                "again, it goes on where it was, with fewer --workers."
            ) from error
        except OSError as error:
            raise ArgumentError(
                f"the set cannot be written ({error}); make room, and run the same command again, "
                "it goes on where it was."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _wait_for(futures: list[Future], counter: Any, done: int, total: int) -> None:
    started, waiting = time.monotonic(), set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=REPORT_SECS, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        made, secs = counter.value, time.monotonic() - started
        if made:
            left = format_secs((total - done - made) * secs / made)
            say(f"{done + made:,} of {total:,} images, {made / secs:,.0f} images/s, {left} left")


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes started within it leave Ctrl-C to this one, from their first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Stopped(Exception):
    """The parent process wants no more images."""


_counter: Any = None
_stop: Any = None


def _start_worker(parent: int, counter: Any, stop: Any) -> None:
    """In a new process: count images there, and end when the parent ends."""
    global _counter, _stop
    _counter, _stop = counter, stop

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_shard(task: Task) -> None:
    """Writes one shard under another name, then gives it its own, then notes that it is whole."""
    partial = task.path.with_name(f"{task.path.name}.partial")
    bad: list[str] = []
    num_bytes = count = 0
    try:
        writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
        for record in _records(task, bad):
            writer.write(record)
            num_bytes += len(record)
            count += 1
        writer.close()
    except RuntimeError as error:  # what it raises for a full disk
        raise OSError(str(error)) from error
    partial.replace(task.path)
    write_text(task.note, json.dumps(Written(task.made_from, count, num_bytes, bad)._asdict()))


def _records(task: Task, bad: list[str]) -> Iterator[bytes]:
    for picture in task.pictures:
        if _stop.is_set():
            raise Stopped
        with _counter.get_lock():
            _counter.value += 1
        try:
            pixels = picture.pixels(task.size)
        except (ArgumentError, OSError) as error:
            bad.append(str(error))
            continue
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        png.seek(0)
        yield task.serialize(picture.name, png, picture.label)


def read_note(task: Task) -> Written | None:
    """What is known of a shard, None if it is not whole or was made from other pictures."""
    try:
        note = Written(**json.loads(task.note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or damaged
        return None
    whole = note.made_from == task.made_from and count_records(task.path) == note.count
    return note if whole else None


def count_records(path: Path) -> int | None:
    """How many records a shard holds; None if it is not there, cut off or overwritten."""
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()
    except RuntimeError:  # all that it raises, some of it at the end
        return None
    return count


def write_text(path: Path, text: str) -> None:
    """Writes a file that is either whole or not there."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
