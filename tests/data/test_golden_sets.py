"""Sets and copies of buckets that older versions wrote: read, found whole, and not rewritten."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from etils import epath

import ict_jax
from ict_jax.data import bucket, load_data, prepare

ARCHIVE = Path(__file__).parent / "golden_sets" / "sets.tar.xz"
VERSIONS = ("0b4ba27", "75661fa")
COPIES = {"ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"}

SHA256_OF_VALUES = "ec0a57d365de1062f222d9bd9fa2db287b76c8e1de76061e80994742f96f246a"
"""Digest of images and labels of all splits, as the older versions read them."""


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path, monkeypatch):
    """Directory of what a version wrote, `sets` and `cache`; `photos` in the present one."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / request.param


def files(directory):
    """Content, time and inode of every file but locks."""
    return {
        path.relative_to(directory).as_posix(): (
            path.read_bytes(),
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def prepare_photos(out, name):
    return prepare.prepare_folder("photos", out, name=name, image_size=8, skip_bad=True, workers=1)


def test_an_old_set_has_the_same_images_and_labels(old):
    digest = hashlib.sha256()
    data = load_data("tfds:finished", data_dir=str(old / "sets"))
    for split in (data.train, data.validation, data.test):
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    assert [split.size for split in (data.train, data.validation, data.test)] == [10, 1, 1]
    assert data.image_shape == (8, 8, 3) and data.num_classes == 2
    assert list(data.train.labels) == [0] * 5 + [1] * 5
    assert digest.hexdigest() == SHA256_OF_VALUES


def test_an_old_set_is_already_there(old, capsys):
    before = files(old / "sets" / "finished")
    whole = prepare_photos(old / "sets", "finished")
    assert whole == old / "sets" / "finished" / "1.0.0"
    said = f"{whole} is already there, made from the same files, 1 left out\n"
    assert capsys.readouterr().out == said
    assert files(old / "sets" / "finished") == before
    Path("photos/ant/3.png").write_bytes(Path("photos/bee/3.png").read_bytes())
    with pytest.raises(ict_jax.ArgumentError, match="was made from other files, or these have"):
        prepare_photos(old / "sets", "finished")


def test_a_set_begun_by_an_old_version_is_finished(old, capsys):
    """Shards without bad files are kept; that with one is written again, to the same bytes."""
    begun, finished = old / "sets" / "begun", old / "sets" / "finished" / "1.0.0"
    before = files(begun / "1.0.0.incomplete")
    whole = prepare_photos(old / "sets", "begun")
    assert "2 of 13 images were written before\n" in capsys.readouterr().out
    after = files(whole)
    for split in ("train", "validation", "test"):
        shard = f"{split}.array_record-00000-of-00001"
        assert after[f"begun-{shard}"][0] == (finished / f"finished-{shard}").read_bytes()
        assert (after[f"begun-{shard}"] == before[f"begun-{shard}"]) == (split != "train")
    assert not (begun / "1.0.0.incomplete").exists()


def test_old_copies_of_a_bucket_are_used(old, monkeypatch):
    """A directory stands for the bucket; a copy may be removed if a listing names it."""
    monkeypatch.setenv(bucket.CACHE, str(old / "cache"))
    monkeypatch.setattr(bucket, "to_path", lambda url: epath.Path("bucket").absolute())
    for name in COPIES:
        Path("bucket", name).parent.mkdir(parents=True, exist_ok=True)
        Path("bucket", name).write_bytes(Path("photos", name).read_bytes())
    (copies,) = (path for path in (old / "cache").iterdir() if path.is_dir())
    listing = copies.with_name(f"{copies.name}.json")
    before, listed = files(copies), listing.is_file()
    assert set(before) == COPIES and listed == (old.name != "0b4ba27")
    content = listing.read_bytes() if listed else b"[]"
    assert bucket.local_copy("gs://bkt/data") == str(copies)
    assert files(copies) == before and listing.read_bytes() == content
    Path("bucket", "ant", "1.png").unlink()
    if listed:
        assert bucket.local_copy("gs://bkt/data") == str(copies)
        assert set(files(copies)) == COPIES - {"ant/1.png"}
    else:
        with pytest.raises(ict_jax.ArgumentError, match=r"ant/1.png lies among copies"):
            bucket.local_copy("gs://bkt/data")
        assert files(copies) == before
