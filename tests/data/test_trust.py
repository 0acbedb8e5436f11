"""Buckets, sets and images of others: they write, delete, read and run nothing elsewhere."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

import ict_jax
from ict_jax.data import bucket, load_data, prepare
from ict_jax.data.prepare.imagenet import list_imagenet
from ict_jax.data.preprocess import decode, decode_as_adm
from ict_jax.data.sets.tfds import StoredSet
from ict_jax.runtime.storage import safe_join, safe_relative_path
from tests.data.test_prepare import photos
from tests.fake_gcs import fake_gcs
from tests.helpers import ROOT

OUTSIDE = ("../x", "/etc/x", "a/../../x", "..", "", ".", "a\0b")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """What the user has cached and named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home_cache"))
    monkeypatch.delenv(bucket.CACHE, raising=False)
    return tmp_path / "home_cache" / "ict_jax"


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=r"names .* leads out of its directory"):
        safe_relative_path(name, "a tar file")
    with pytest.raises(ict_jax.ArgumentError, match="leads out of its directory"):
        safe_join(tmp_path, name, "a bucket")


def test_links_on_the_way_are_refused(tmp_path):
    os.symlink("/etc", tmp_path / "a")
    with pytest.raises(ict_jax.ArgumentError, match=r"a is a link, which is not followed; remove"):
        safe_join(tmp_path, "a/passwd", "a bucket")
    assert safe_join(tmp_path, "b/./c.png", "a bucket") == tmp_path / "b" / "c.png"


BUCKET = """
import sys
from ict_jax.core.errors import ArgumentError
from ict_jax.data import load_data
for name in sys.argv[1:]:
    try:
        print(load_data(name, data_dir="gs://bkt/data", image_size=8).train.size)
    except ArgumentError as error:
        print(error)
"""


@pytest.fixture
def objects(tmp_path):
    """`objects(names, sets)` -> what loading sets from gs://bkt/data with objects of names says."""
    pytest.importorskip("gcsfs")
    image = tmp_path / "image.png"
    Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(image)

    def load(names, *sets):
        with fake_gcs() as service:
            for name in names:
                url = f"{service.url}/upload/storage/v1/b/bkt/o?uploadType=media&name="
                content = image.read_bytes() if name.endswith(".png") else b""
                urlopen(Request(url + quote(name, safe=""), content, method="POST")).close()
            return subprocess.run(
                [sys.executable, "-c", BUCKET, *sets],
                cwd=ROOT,
                env={**os.environ, **service.environment, "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                timeout=100,
            ).stdout

    return load


IMAGES = [f"data/{label}/{index}.png" for label in "ab" for index in range(3)]


def test_a_bucket_writes_nowhere_else(objects, tmp_path, home):
    (tmp_path / "home_cache" / "victim").mkdir(parents=True)
    (tmp_path / "home_cache" / "victim" / "thesis.tex").write_text("mine")
    said = objects(
        [*IMAGES, "data/../../x/.bashrc"], "folder", "tfds:../../../victim", "tfds:/etc"
    ).splitlines()
    assert "gs://bkt/data names '..', which leads out of its directory" in said[0]
    assert [line.partition(" is no")[0] for line in said[1:]] == [
        "tfds:../../../victim",
        "tfds:/etc",
    ]
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert [path.name for path in found] == ["thesis.tex"]


def test_placeholders_of_a_bucket_end_no_copy(objects, home):
    """Consoles of clouds make objects that are named like a directory, or `data//`."""
    said = objects([*IMAGES, "data/", "data//"], "folder")
    assert said.splitlines()[-1] == "4"
    assert (home / "data").is_dir()


@pytest.fixture
def source(tmp_path):
    """A directory that stands for a bucket."""
    (tmp_path / "bucket" / "a").mkdir(parents=True)
    for name in ("a/1", "2"):
        (tmp_path / "bucket" / name).write_text(name)
    return tmp_path / "bucket"


def test_nothing_is_deleted_that_was_not_copied(source, home):
    target = Path(bucket.local_copy(str(source)))
    assert target.is_relative_to(home / "data")
    (target / "mine.txt").write_text("mine")
    with pytest.raises(ict_jax.ArgumentError, match=r"mine.txt lies among copies of a bucket and"):
        bucket.local_copy(str(source))
    (target / "mine.txt").rename(target / ".mine")
    (source / "a" / "1").unlink()
    (source / "a").rmdir()
    bucket.local_copy(str(source))
    assert {path.name for path in target.rglob("*")} == {"2", ".mine"}


def test_a_copy_of_before_and_what_a_killed_one_left(source, home):
    """Without its listing a copy is used as it is; parts of files are removed by the listing."""
    target = Path(bucket.local_copy(str(source)))
    listing = target.with_name(f"{target.name}.json")
    listing.write_text(json.dumps(["2", "a/.1.part"]))
    (target / "a" / ".1.part").write_text("half")
    bucket.local_copy(str(source))
    assert {path.name for path in target.rglob("*")} == {"a", "1", "2"}
    listing.unlink()
    (source / "a" / "1").unlink()
    with pytest.raises(ict_jax.ArgumentError, match=r"a/1 lies among copies"):
        bucket.local_copy(str(source))
    assert (target / "a" / "1").read_text() == "a/1"


@pytest.mark.parametrize("place", ["", ".lock", ".json", "/a", "/2"])
def test_links_in_the_cache_are_not_followed(source, home, tmp_path, place):
    target = Path(bucket.local_copy(str(source)))
    planted = Path(f"{target}{place}")
    planted.rename(tmp_path / "kept")
    os.symlink(tmp_path / "kept", planted)
    (source / "2").write_text("changed")
    with pytest.raises(ict_jax.ArgumentError, match=r"is a link, which|lies among copies"):
        bucket.local_copy(str(source))


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/../b", "a/..", "huggingface:mnist", "a:b", "a/data_dir=b", "a,b=1"]
)
def test_names_of_sets_are_names(name, tmp_path):
    for load in (
        lambda: load_data(f"tfds:{name}", data_dir=str(tmp_path)),
        lambda: prepare.prepare_tfds(None, tmp_path, name=name),
    ):
        with pytest.raises(ict_jax.ArgumentError, match="is no name of a set on disk, expected"):
            load()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    source = photos(root / "photos")
    return prepare.prepare_folder(source, root / "sets", image_size=16, workers=1)


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def evil_feature(directory):
    def edit(value):
        value["featuresDict"]["features"]["more"] = {"pythonClassName": "evil.Foo", "tensor": {}}

    change(directory / "features.json", edit)


def evil_feature_of_old(directory):
    old = {"type": "evil.Foo", "content": {}}
    own = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    (directory / "features.json").write_text(json.dumps({"type": own, "content": {"more": old}}))


def evil_feature_in_the_notes(directory):
    features = {"pythonClassName": "evil.Foo", "tensor": {}}
    change(directory / "dataset_info.json", lambda value: value.update(features=features))


def files_elsewhere(directory):
    def edit(value):
        for split in value["splits"]:
            split["filepathTemplate"] = "../../../other/" + split["filepathTemplate"]

    change(directory / "dataset_info.json", edit)


def config_elsewhere(directory):
    """The name of the default config stands in a file too."""
    other = directory.parent.parent.parent / "other"
    other.mkdir()
    directory.rename(other / "1.0.0")
    (directory.parent / ".config").mkdir()
    notes = directory.parent / ".config" / "metadata.json"
    notes.write_text(json.dumps({"default_config_name": "../../other"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (evil_feature, "has features of the class 'evil.Foo', which is none of TFDS"),
        (evil_feature_of_old, "has features of the class 'evil.Foo', which is none of TFDS"),
        (evil_feature_in_the_notes, "has features of the class 'evil.Foo', which is none of TFDS"),
        (files_elsewhere, "leads out of its directory"),
        (config_elsewhere, "leads out of its directory"),
    ],
)
def test_a_set_imports_and_reads_nothing_from_elsewhere(
    damage, message, prepared, tmp_path, monkeypatch
):
    directory = tmp_path / "sets" / "images" / "1.0.0"
    shutil.copytree(prepared.parent.parent, tmp_path / "sets")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_data("tfds:images", data_dir=str(tmp_path / "sets")).num_classes > 0
    damage(directory)
    with pytest.raises(ict_jax.ArgumentError, match=message):
        load_data("tfds:images", data_dir=str(tmp_path / "sets"))
    assert not (tmp_path / "ran").exists()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


@pytest.mark.parametrize("content", [EPS, b"P9 9\n", b"<svg/>"])
def test_images_go_to_no_program(content, tmp_path):
    """Ghostscript is what Pillow hands EPS to, whatever the file is called."""
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ict_jax.ArgumentError, match=r"a.jpg is no image"):
        decode(tmp_path / "a.jpg", 1)
    with pytest.raises(ict_jax.ArgumentError, match="is no image"):
        decode_as_adm(content, "a.JPEG")
    with pytest.raises(ict_jax.ArgumentError, match="cannot identify image file"):
        StoredSet("tfds:x", [{"image": content, "label": 0}], 10)


def test_a_tar_file_names_nothing_outside_and_has_no_links(tmp_path):
    (tmp_path / "train" / "n01440764").mkdir(parents=True)
    (tmp_path / "train" / "n01440764" / "a.JPEG").write_bytes(b"")
    (tmp_path / "labels").write_text("n01440764\n")

    def listed(*members):
        with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as tar:
            for name, kind, link in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, link
                tar.addfile(member, io.BytesIO())
        return list_imagenet(tmp_path, tmp_path / "labels")[0]["validation"]

    link, file = (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.REGTYPE, "")
    assert [p.name for p in listed(("l.JPEG", *link), ("./a.JPEG", *file))] == ["./a.JPEG"]
    with pytest.raises(ict_jax.ArgumentError, match=r"val.tar names '../a.JPEG', which leads out"):
        listed(("../a.JPEG", *file))
