"""Shards of a set: written in parallel, resumable, and never half-written under their own name."""

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
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from PIL import Image

from ict_jax.core.errors import ArgumentError
from ict_jax.data.prepare.sources import SourceImage
from ict_jax.runtime.console import format_time_left, say

SHARD_SIZE = 5000  # images per shard, which are lost when a process is killed
REPORT_SECS = 5.0

Serialize = Callable[[str, io.BytesIO, int], bytes]  # (name, png, label) -> record


class Task(NamedTuple):
    """One shard to write."""

    path: Path
    made_from: str  # hash of the names, labels and stamps of the images
    images: Sequence[SourceImage]
    size: int  # height and width of the written images
    serialize: Serialize  # importable by another process

    @property
    def note(self) -> Path:
        """Path of the shard's `ShardNote`, which exists once the shard is complete."""
        return self.path.with_name(f"{self.path.name}.json")


class ShardNote(NamedTuple):
    """Record of a complete shard: hash of its task, number of records and bytes, bad files."""

    made_from: str
    count: int
    num_bytes: int
    bad: list[str]


def shard_path(directory: Path, name: str, split: str, index: int, count: int) -> Path:
    """Return the path of one of `count` shards of a split, named as by TFDS."""
    return directory / f"{name}-{split}.array_record-{index:05d}-of-{count:05d}"


def make_tasks(
    directory: Path,
    name: str,
    splits: Mapping[str, Sequence[SourceImage]],
    size: int,
    serialize: Serialize,
) -> dict[str, list[Task]]:
    """Divide each split of the set `name` into shards."""
    tasks = {}
    for split, images in splits.items():
        parts = [images[start : start + SHARD_SIZE] for start in range(0, len(images), SHARD_SIZE)]
        tasks[split] = [
            Task(
                shard_path(directory, name, split, index, len(parts)),
                hash_sources({split: part}, stamped=True),
                part,
                size,
                serialize,
            )
            for index, part in enumerate(parts)
        ]
    return tasks


def hash_sources(
    splits: Mapping[str, Sequence[SourceImage]], *, stamped: bool, **options: Any
) -> str:
    """Hash the names, labels and order of images, their stamps if `stamped`, and options."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for split, images in splits.items():
        digest.update(split.encode())
        for image in images:
            stamp = image.stamp() if stamped else ""
            digest.update(f"{image.name}\0{image.label}\0{stamp}\n".encode())
    return digest.hexdigest()


def write_shards(tasks: Sequence[Task], *, workers: int) -> None:
    """Write the missing shards in several processes, and report progress.

    A shard is written again if one of its files was left out or has changed since.

    Raises:
      ArgumentError: a process died, or the set cannot be written.
    """
    missing = [task for task in tasks if (note := read_note(task)) is None or note.bad]
    if not missing:
        return
    total = sum(len(task.images) for task in tasks)
    done = total - sum(len(task.images) for task in missing)
    if done:
        say(f"{done:,} of {total:,} images were written before")
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would break
    counter, stop = context.Value("q", 0), context.Event()
    with futures.ProcessPoolExecutor(
        min(workers, len(missing)), context, _start_worker, (os.getpid(), counter, stop)
    ) as pool:
        try:
            with _ignore_ctrl_c():
                jobs = [pool.submit(write_shard, task) for task in missing]
            _wait_for(jobs, counter, done, total)
        except futures.BrokenExecutor as error:
            raise ArgumentError(
                "a process that prepared images died, perhaps out of memory; run the same command "
                "again with fewer --workers, and it will resume."
            ) from error
        except OSError as error:
            raise ArgumentError(
                f"the set cannot be written ({error}); make room and run the same command again, "
                "and it will resume."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _wait_for(jobs: list[futures.Future], counter: Any, done: int, total: int) -> None:
    started, waiting = time.monotonic(), set(jobs)
    while waiting:
        finished, waiting = futures.wait(waiting, REPORT_SECS, futures.FIRST_COMPLETED)
        for job in finished:
            job.result()
        if made := counter.value:
            rate = made / (time.monotonic() - started)
            left = format_time_left(total - done - made, rate)
            say(f"{done + made:,} of {total:,} images, {rate:,.0f} images/s, {left}")


@contextlib.contextmanager
def _ignore_ctrl_c() -> Iterator[None]:
    """Let processes started inside ignore Ctrl-C, which this one handles, from their start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_counter: Any = None
_stop: Any = None


def _start_worker(parent: int, counter: Any, stop: Any) -> None:
    """Set up a new process, which counts its images there and ends when the parent does."""
    global _counter, _stop
    _counter, _stop = counter, stop

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_shard(task: Task) -> None:
    """Write one shard under a temporary name, rename it, then write its note."""
    partial = task.path.with_name(f"{task.path.name}.partial")
    bad: list[str] = []
    lengths = []
    try:
        writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
        for record in _records(task, bad):
            writer.write(record)
            lengths.append(len(record))
        writer.close()
    except RuntimeError as error:  # on a full disk
        raise OSError(str(error)) from error
    partial.replace(task.path)
    note = ShardNote(task.made_from, len(lengths), sum(lengths), bad)
    write_text(task.note, json.dumps(note._asdict()))


def _records(task: Task, bad: list[str]) -> Iterator[bytes]:
    for image in task.images:
        if _stop.is_set():
            raise futures.CancelledError
        with _counter.get_lock():
            _counter.value += 1
        try:
            pixels = image.pixels(task.size)
        except (ArgumentError, OSError) as error:
            bad.append(str(error))
            continue
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        png.seek(0)
        yield task.serialize(image.name, png, image.label)


def read_note(task: Task) -> ShardNote | None:
    """Read the note of a shard; None if it is incomplete or was written from other images."""
    try:
        note = ShardNote(**json.loads(task.note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or damaged
        return None
    whole = note.made_from == task.made_from and count_records(task.path) == note.count
    return note if whole else None


def count_records(path: Path) -> int | None:
    """Count the records of a shard; None if it is missing, truncated or overwritten."""
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()
    except RuntimeError:  # the only kind it raises, some on close
        return None
    return count


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
