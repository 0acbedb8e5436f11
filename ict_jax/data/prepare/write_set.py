"""A set on disk, written in a directory that is renamed when the set is complete."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ict_jax.core.errors import ArgumentError, require
from ict_jax.data.prepare import tfds_format
from ict_jax.data.prepare.shards import (
    ShardNote,
    Task,
    hash_sources,
    make_tasks,
    read_note,
    write_shards,
    write_text,
)
from ict_jax.data.prepare.sources import SourceImage
from ict_jax.data.prepare.tfds_format import Serializer
from ict_jax.runtime.console import say
from ict_jax.runtime.locks import locked_directory

ORIGIN = "origin.json"  # in a set: hashes of its sources and options, and the files left out


def write_image_set(
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
    """Write a set, or resume an interrupted one, and return its directory."""
    workers = os.cpu_count() or 1 if workers is None else workers
    require(workers >= 1, f"--workers={workers} must be at least 1.")
    home, final = out / name, out / name / version
    require(
        final.is_dir() or not final.exists(),
        f"{final} is a file, where the set is to be; remove it, or give another --out.",
    )
    begun = home / f"{version}.incomplete"
    layout = hash_sources(splits, stamped=False, size=size, class_names=class_names)
    tasks = make_tasks(begun, name, splits, size, Serializer(size, tuple(class_names)))
    all_tasks = [task for part in tasks.values() for task in part]
    made_from = layout + "".join(task.made_from for task in all_tasks)
    origin: dict[str, Any] = {
        "layout": layout,
        "made_from": hashlib.sha256(made_from.encode()).hexdigest(),
        "images": {split: len(images) for split, images in splits.items()},
    }
    with locked_directory(home, "--out"):
        if final.is_dir():
            return _check_existing(final, name, all_tasks, origin)
        _begin(begun, origin)
        write_shards(all_tasks, workers=workers)
        shards = {split: [*map(_read_complete, part)] for split, part in tasks.items()}
        bad = [message for notes in shards.values() for note in notes for message in note.bad]
        _report_bad(bad, home / "bad_files.txt", skip_bad)
        counts = {split: sum(note.count for note in notes) for split, notes in shards.items()}
        require(
            min(counts.values()) > 0,
            f"without the unusable files {counts} images are left, expected some in each split; "
            "add images.",
        )
        tfds_format.write_metadata(begun, name, version, size, class_names, shards)
        origin |= {"left_out": bad, "metadata": tfds_format.metadata_digests(begun)}
        write_text(begun / ORIGIN, json.dumps(origin, indent=2) + "\n")
        begun.rename(final)
        _remove_notes(final, all_tasks)
    say(f"{', '.join(f'{split} {count:,}' for split, count in counts.items())} images: {final}")
    say(f"train on it with --config.data.name=tfds:{name} --config.data.data_dir={out}")
    return final


def _begin(directory: Path, origin: dict[str, Any]) -> None:
    """Create the directory of a set, or check that it was begun from the same images."""
    directory.mkdir(exist_ok=True)
    if (directory / ORIGIN).is_file():
        require(
            _read_origin(directory).get("layout") == origin["layout"],
            f"{directory} was begun from other images or options; resume with those, or remove it.",
        )
    write_text(directory / ORIGIN, json.dumps(origin))


def _read_complete(task: Task) -> ShardNote:
    note = read_note(task)
    if note is None:
        raise ArgumentError(f"{task.path} is not what was written; run the same command again.")
    return note


def _check_existing(final: Path, name: str, tasks: list[Task], origin: dict) -> Path:
    """Check that an existing set is undamaged and was made from the same images."""
    found = _read_origin(final)
    damage = tfds_format.find_damage(final, name, found.get("metadata"))
    require(
        found != {} and not damage,
        f"{final} is no longer whole ({damage or f'{ORIGIN} cannot be read'}); remove that "
        "directory, and run the same command again.",
    )
    require(
        found.get("made_from") == origin["made_from"],
        f"{final} was made from other files, or these have changed since; give another --out, or "
        "remove that set.",
    )
    _remove_notes(final, tasks)  # left over if the process was killed just after the rename
    left_out = len(found.get("left_out", []))
    suffix = f", {left_out} left out" if left_out else ""
    say(f"{final} is already there, made from the same files{suffix}")
    return final


def _remove_notes(directory: Path, tasks: list[Task]) -> None:
    for task in tasks:
        (directory / task.note.name).unlink(missing_ok=True)


def _read_origin(directory: Path) -> dict:
    try:
        found = json.loads((directory / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _report_bad(bad: list[str], listing: Path, skip_bad: bool) -> None:
    """List the unusable files; raise `ArgumentError` if there are any, unless `skip_bad`."""
    if not bad:
        listing.unlink(missing_ok=True)  # from an earlier run
        return
    write_text(listing, "".join(f"{message}\n" for message in bad))
    if not skip_bad:
        raise ArgumentError(
            f"{len(bad):,} files cannot be used, all listed in {listing}, first: {bad[0]} All "
            "others are prepared; fix these and run the same command again, or leave them out with "
            "--skip_bad."
        )
    say(f"{len(bad):,} files were left out, all listed in {listing}, first: {bad[0]}")
