"""A set on disk, made in a directory that gets its name when it is whole."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.prepare import tfds_format
from ict_jax.data.prepare.shards import (
    Task,
    Written,
    hash_sources,
    make_tasks,
    read_note,
    write_shards,
    write_text,
)
from ict_jax.data.prepare.sources import SourceImage
from ict_jax.runtime.console import say
from ict_jax.runtime.storage import locked_directory

ORIGIN = "origin.json"
"""In a set: what it was made from, and what was left out."""


def make_set(
    name: str,
    version: str,
    splits: Mapping[str, Sequence[SourceImage]],
    class_names: list[str],
    size: int,
    out: Path,
    *,
    skip_bad: bool,
    workers: int | None,
) -> Path:
    """Writes a set, or goes on with one begun before; it gets its own name when it is whole."""
    workers = workers if workers is not None else os.cpu_count() or 1
    require(workers >= 1, f"--workers={workers} must be at least 1.")
    home, whole = out / name, out / name / version
    require(
        whole.is_dir() or not whole.exists(),
        f"{whole} is a file, where the set is to be; remove it, or give another --out.",
    )
    begun = home / f"{version}.incomplete"
    layout = hash_sources(splits, stamped=False, size=size, class_names=class_names)
    serialize = tfds_format.Serializer(size, tuple(class_names))
    tasks = make_tasks(begun, tfds_format.namer(name), splits, size, serialize)
    every = [task for part in tasks.values() for task in part]
    origin = {
        "layout": layout,
        "made_from": hashlib.sha256(
            "".join([layout, *(t.made_from for t in every)]).encode()
        ).hexdigest(),
        "images": {split: len(pictures) for split, pictures in splits.items()},
    }
    with locked_directory(home, "--out"):
        if whole.is_dir():
            return _already_there(whole, name, every, origin)
        begun.mkdir(exist_ok=True)
        if (begun / ORIGIN).is_file():
            require(
                _read_origin(begun).get("layout") == layout,
                f"{begun} was begun from other images or options; go on with those, or remove it.",
            )
        write_text(begun / ORIGIN, json.dumps(origin))
        write_shards(every, workers=workers)
        written = {split: _notes(part) for split, part in tasks.items()}
        bad = [message for notes in written.values() for note in notes for message in note.bad]
        _report_bad(bad, home / "bad_files.txt", skip_bad)
        counts = {split: sum(note.count for note in notes) for split, notes in written.items()}
        require(
            min(counts.values()) > 0,
            f"without the files that cannot be used {counts} images are left, expected some in "
            "each split; add images.",
        )
        tfds_format.write_metadata(begun, name, version, size, class_names, written)
        told = {"left_out": bad, "metadata": tfds_format.metadata_digests(begun)}
        write_text(begun / ORIGIN, json.dumps(origin | told, indent=2) + "\n")
        begun.rename(whole)
        _remove_notes(whole, every)
    say(f"{', '.join(f'{split} {count:,}' for split, count in counts.items())} images: {whole}")
    say(f"train on it with --config.data.name=tfds:{name} --config.data.data_dir={out}")
    return whole


def _notes(tasks: Sequence[Task]) -> list[Written]:
    """What is known of the shards of a split, all of which are whole."""
    notes = [read_note(task) for task in tasks]
    broken = [task.path for task, note in zip(tasks, notes, strict=True) if note is None]
    require(not broken, f"{broken[:1]} is not what was written; run the same command again.")
    return [note for note in notes if note is not None]


def _already_there(whole: Path, name: str, tasks: list[Task], origin: dict) -> Path:
    """Says so, if it is there, whole, and made from the same pictures."""
    found = _read_origin(whole)
    damage = tfds_format.find_damage(whole, name, found.get("metadata"))
    require(
        found != {} and not damage,
        f"{whole} is no longer whole ({damage or f'{ORIGIN} cannot be read'}); remove that "
        "directory, and run the same command again.",
    )
    require(
        found.get("made_from") == origin["made_from"],
        f"{whole} was made from other files, or these have changed since; give another --out, or "
        "remove that set.",
    )
    _remove_notes(whole, tasks)  # which stay if the process is killed just after the rename
    left_out = len(found.get("left_out", []))
    say(
        f"{whole} is already there, made from the same files"
        + f", {left_out} left out" * bool(left_out)
    )
    return whole


def _remove_notes(whole: Path, tasks: list[Task]) -> None:
    for task in tasks:
        (whole / task.note.name).unlink(missing_ok=True)


def _read_origin(directory: Path) -> dict:
    try:
        found = json.loads((directory / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _report_bad(bad: list[str], listing: Path, skip_bad: bool) -> None:
    """Lists the files that could not be used.

    Raises:
      ArgumentError: there are some, and they are not to be skipped.
    """
    if not bad:
        listing.unlink(missing_ok=True)  # of an earlier run
        return
    write_text(listing, "".join(f"{message}\n" for message in bad))
    if not skip_bad:
        raise ArgumentError(
            f"{len(bad):,} files cannot be used, all listed in {listing}, first: {bad[0]} All "
            "others are made; mend these and run the same command again, or leave them out with "
            "--skip_bad."
        )
    say(f"{len(bad):,} files were left out, all listed in {listing}, first: {bad[0]}")
