"""Sets prepared on disk: the pixels, every form of the source, bad files, and kill -9."""

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

import ict_jax
from ict_jax.data import Batches, load_data, prepare
from ict_jax.data.prepare import shards, tfds_format, tfds_official
from ict_jax.data.preprocess import center_crop
from ict_jax.data.sets import cifar10
from ict_jax.runtime.locks import locked_directory
from tests.data.test_cifar10 import archive
from tests.helpers import ROOT, command

SYNSETS = ("n02084071", "n01440764", "n01443537")  # not in their order


def jpeg(path, seed, size=(90, 70), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, "JPEG")


def imagenet(root, count=4):
    """Raw ImageNet of three classes, as folders."""
    for label, synset in enumerate(SYNSETS):
        for index in range(count):
            jpeg(root / "train" / synset / f"{synset}_{index}.JPEG", 10 * label + index)
        number = 3 - label  # so that the order of names is not that of classes
        jpeg(root / "val" / synset / f"ILSVRC2012_val_{number:08d}.JPEG", 100 + label)
    return root


def tarred(root, out):
    """The same as the published tar files: one of tar files, and a flat one."""
    out.mkdir()
    with tarfile.open(out / "ILSVRC2012_img_train.tar", "w") as outer:
        for synset in sorted(SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for path in sorted((root / "train" / synset).iterdir()):
                    tar.add(path, path.name)
            member = tarfile.TarInfo(f"{synset}.tar")
            member.size = inner.tell()
            inner.seek(0)
            outer.addfile(member, inner)
    with tarfile.open(out / "ILSVRC2012_img_val.tar", "w") as tar:
        for path in (root / "val").rglob("*.JPEG"):
            tar.add(path, path.name)
    return out


def contents(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return imagenet(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return prepare.prepare_imagenet64(raw, out, workers=1), out


def test_imagenet_has_the_pixels_of_adm_and_the_standard_labels(raw, prepared):
    directory, out = prepared
    source = tfds.builder("imagenet64", data_dir=out).as_data_source("train")
    assert len(source) == 12
    for example in source:
        name = example["id"].decode()
        synset = name.split("/")[0]
        assert example["label"] == sorted(SYNSETS).index(synset)
        with Image.open(raw / "train" / name) as image:
            expected = center_crop(image.convert("RGB"), 64)
        np.testing.assert_array_equal(example["image"], expected)
    data = load_data("tfds:imagenet64", data_dir=str(out))
    assert data.num_classes == 3 and data.image_shape == (64, 64, 3)
    assert (data.train.size, data.validation.size + data.test.size) == (12, 3)
    assert directory == out / "imagenet64" / "1.0.0"


def test_every_file_that_adm_reads_is_read(tmp_path):
    """Colours of printing, grey, one pixel high: ADM's code converts and enlarges them."""
    imagenet(tmp_path / "raw", 1)
    folder = tmp_path / "raw" / "train" / SYNSETS[0]
    jpeg(folder / "a.JPEG", 1, mode="CMYK")
    jpeg(folder / "b.JPEG", 2, mode="L")
    jpeg(folder / "c.JPEG", 3, size=(20, 1))
    prepare.prepare_imagenet64(tmp_path / "raw", tmp_path / "out", workers=1)
    data = load_data("tfds:imagenet64", data_dir=str(tmp_path / "out"))
    assert data.train.size == 6
    with Image.open(folder / "a.JPEG") as image:
        expected = center_crop(image.convert("RGB"), 64)
    assert any((image == expected).all() for image in data.train.images)


@pytest.mark.parametrize("form", ["tar", "kaggle", "lines"])
def test_every_form_of_imagenet_gives_the_same_set(raw, prepared, tmp_path, form):
    names = sorted((path.stem, path.parent.name) for path in (raw / "val").rglob("*.JPEG"))
    labels = tmp_path / "labels"
    labels.write_text("".join(f"{synset}\n" for _, synset in names))
    if form == "tar":
        source = tarred(raw, tmp_path / "tars")
    else:
        source = tmp_path / "flat"
        (source / "val").mkdir(parents=True)
        os.symlink(raw / "train", source / "train")
        for path in (raw / "val").rglob("*.JPEG"):
            os.symlink(path, source / "val" / path.name)
    if form == "kaggle":
        rows = [f"{stem},{synset} 1 2 3 4 {synset} 5 6 7 8\n" for stem, synset in reversed(names)]
        labels.write_text("ImageId,PredictionString\n" + "".join(rows))
    prepare.prepare_imagenet64(source, tmp_path / "out", val_labels=labels, workers=1)
    a, b = (load_data("tfds:imagenet64", data_dir=str(d)) for d in (tmp_path / "out", prepared[1]))
    for mine, other in ((a.train, b.train), (a.validation, b.validation), (a.test, b.test)):
        np.testing.assert_array_equal(mine.images, other.images)
        np.testing.assert_array_equal(mine.labels, other.labels)


def test_mistakes_with_imagenet(raw, tmp_path):
    def refused(message, source, **options):
        with pytest.raises(ict_jax.ArgumentError, match=message):
            prepare.prepare_imagenet64(source, tmp_path / "out", workers=1, **options)

    source = tmp_path / "source"
    source.mkdir()
    refused("holds neither train/ nor ILSVRC2012_img_train.tar; give", source)
    (source / "ILSVRC2012_img_train.tar").write_bytes(b"x" * 3000)
    refused("img_train.tar is no whole tar file .*; get it again", source)
    os.symlink(raw / "train", source / "train")
    refused("holds neither val/ nor ILSVRC2012_img_val.tar; add", source)
    (source / "val").mkdir()
    for number in (1, 2):
        jpeg(source / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    refused("does not say the classes of its images; give --val_labels", source)
    labels = tmp_path / "labels"
    refused("labels does not exist", source, val_labels=labels)
    labels.write_text("n01440764\n")
    refused("has 1 lines for 2 images, expected a WordNet id", source, val_labels=labels)
    labels.write_text("449\n450\n")
    refused("expected a WordNet id such as n01440764", source, val_labels=labels)
    labels.write_text("n01440764\nn99999999\n")
    refused(r"have the classes \['n99999999'\] that its training", source, val_labels=labels)
    labels.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n")
    refused("lacks 1 images, first .*00000002", source, val_labels=labels)
    (source / "train").unlink()
    (source / "train" / "cats").mkdir(parents=True)
    refused("cats is not named by a WordNet id", source)
    (source / "train" / "cats").rename(source / "train" / "n00000001")
    refused("n00000001 holds no images; get that class again", source)
    assert not (tmp_path / "out").exists()


def photos(root, count=10):
    for label, name in enumerate(("ant", "bee")):
        for index in range(count):
            jpeg(root / name / f"{index}.jpg", 100 * label + index)
    return root


def test_a_folder_at_any_size(tmp_path):
    photos(tmp_path / "photos")
    path = prepare.prepare_folder(
        tmp_path / "photos", tmp_path / "out", name="insects", image_size=24, workers=1
    )
    data = load_data("tfds:insects", data_dir=str(tmp_path / "out"))
    assert path == tmp_path / "out" / "insects" / "1.0.0"
    assert data.image_shape == (24, 24, 3) and data.num_classes == 2
    assert [part.size for part in (data.train, data.validation, data.test)] == [16, 2, 2]
    every = np.concatenate([part.images for part in (data.train, data.validation, data.test)])
    with Image.open(tmp_path / "photos" / "bee" / "3.jpg") as image:
        expected = center_crop(image, 24)
    assert sum((image == expected).all() for image in every) == 1
    held_out = np.concatenate([data.validation.labels, data.test.labels])
    assert set(held_out) == {0, 1}  # at random, not the first of the first class


def test_mistakes_with_a_folder(tmp_path):
    source = photos(tmp_path / "photos")

    def refused(message, **options):
        options = {"image_size": 24, "out": tmp_path / "out"} | options
        with pytest.raises(ict_jax.ArgumentError, match=message):
            prepare.prepare_folder(source, workers=1, **options)

    refused("--name=My Images must be lowercase letters", name="My Images")
    refused("--name=_x must be lowercase letters", name="_x")
    refused("--name=mnist is the name of a set of TFDS", name="mnist")
    refused("--image_size=1 must be at least 2", image_size=1)
    refused("is --source or lies in it", out=source / "out")
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "1.0.0").write_text("")
    refused("1.0.0 is a file, where the set is to be")
    (tmp_path / "out" / "images" / "1.0.0").unlink()
    for path in source.rglob("*.jpg"):
        path.write_bytes(b"")
    refused(r"'train': 0, 'validation': 0, 'test': 0\} images are left", skip_bad=True)


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path):
    """With the same size and time, as after a disk was away."""
    source = photos(tmp_path / "photos")
    bad = source / "bee" / "9.jpg"
    good = bad.read_bytes()
    bad.write_bytes(bytes(len(good)))
    then = bad.stat()
    with pytest.raises(ict_jax.ArgumentError, match="1 files cannot be used"):
        prepare.prepare_folder(source, tmp_path / "out", image_size=16, workers=1)
    bad.write_bytes(good)
    os.utime(bad, ns=(then.st_atime_ns, then.st_mtime_ns))
    prepare.prepare_folder(source, tmp_path / "out", image_size=16, workers=1)
    data = load_data("tfds:images", data_dir=str(tmp_path / "out"))
    assert data.train.size + data.validation.size + data.test.size == 20


def test_files_that_have_changed_are_made_again(tmp_path):
    """Under the same names: in a set begun before, and not in one that is finished."""
    source = photos(tmp_path / "photos")
    bad = source / "bee" / "9.jpg"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    arguments = (source, tmp_path / "out")
    with pytest.raises(ict_jax.ArgumentError, match="1 files cannot be used"):
        prepare.prepare_folder(*arguments, image_size=16, workers=1)
    bad.write_bytes(good)
    for index in range(10):
        jpeg(source / "ant" / f"{index}.jpg", 500 + index)
    prepare.prepare_folder(*arguments, image_size=16, workers=1)
    assert not (tmp_path / "out" / "images" / "bad_files.txt").exists()
    prepare.prepare_folder(source, tmp_path / "fresh", image_size=16, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    jpeg(source / "ant" / "3.jpg", 999)
    with pytest.raises(ict_jax.ArgumentError, match="was made from other files, or these have"):
        prepare.prepare_folder(*arguments, image_size=16, workers=1)


def test_splits_of_both_kinds_are_read_as_they_are(tmp_path):
    prepare.prepare_folder(photos(tmp_path / "photos"), tmp_path, image_size=16, workers=1)
    data = load_data("tfds:images", data_dir=str(tmp_path))
    builder = tfds.builder("images", data_dir=tmp_path)
    for split in ("validation", "test"):
        stored = np.stack([example["image"] for example in builder.as_data_source(split)])
        np.testing.assert_array_equal(getattr(data, split).images, stored)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:70_000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(byte ^ 255 for byte in path.read_bytes())),
        lambda path: path.unlink(),
        lambda path: path.with_name("dataset_info.json").unlink(),
        lambda path: path.with_name("dataset_info.json").write_text("{"),
        lambda path: path.with_name("features.json").unlink(),
    ],
)
def test_damaged_sets_are_refused_in_a_sentence(prepared, tmp_path, damage):
    shutil.copytree(prepared[1], tmp_path / "set")
    (train,) = (tmp_path / "set").rglob("imagenet64-train*")
    damage(train)
    with pytest.raises(ict_jax.ArgumentError, match=r"'tfds:imagenet64'.*(prepare|prepared)"):
        load_data("tfds:imagenet64", data_dir=str(tmp_path / "set"))


DAMAGES = [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
]


@pytest.mark.parametrize("name", [*tfds_format.METADATA, "origin.json", "imagenet64-validation*"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_set_that_is_no_longer_whole_is_not_already_there(raw, prepared, tmp_path, name, damage):
    shutil.copytree(prepared[1], tmp_path / "set")
    (file,) = (tmp_path / "set").rglob(name)
    damage(file)
    with pytest.raises(ict_jax.ArgumentError, match=r"no longer whole .*; remove that directory"):
        prepare.prepare_imagenet64(raw, tmp_path / "set", workers=1)


def test_what_is_advised_for_a_damaged_set_works(raw, prepared, tmp_path):
    shutil.copytree(prepared[1], tmp_path / "set")
    whole = tmp_path / "set" / "imagenet64" / "1.0.0"
    info = whole / "dataset_info.json"
    info.write_text(info.read_text().replace('"12"', '"13"'))
    with pytest.raises(ict_jax.ArgumentError, match=r"dataset_info.json has changed"):
        prepare.prepare_imagenet64(raw, tmp_path / "set", workers=1)
    shutil.rmtree(whole)
    prepare.prepare_imagenet64(raw, tmp_path / "set", workers=1)
    assert contents(tmp_path / "set") == contents(prepared[1])
    origin = json.loads((whole / "origin.json").read_text())
    del origin["metadata"]  # as the first versions wrote it
    (whole / "origin.json").write_text(json.dumps(origin))
    assert prepare.prepare_imagenet64(raw, tmp_path / "set", workers=1) == whole
    (shard,) = whole.glob("*-train*")
    shard.write_bytes(b"")
    message = "train.* holds no readable records, expected 12"
    with pytest.raises(ict_jax.ArgumentError, match=message):
        prepare.prepare_imagenet64(raw, tmp_path / "set", workers=1)


def test_shards_and_notes_damaged_meanwhile_are_made_again(raw, prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prepare.write_set.tfds_format, "write_metadata", lambda *arguments: None)
        with pytest.raises(OSError, match="dataset_info"):  # stopped when all shards are there
            prepare.prepare_imagenet64(raw, tmp_path, workers=1)
    begun = tmp_path / "imagenet64" / "1.0.0.incomplete"
    (note,) = begun.glob("*-train*.json")
    (shard,) = begun.glob("*-validation*-of-00001")
    note.write_text("")
    shard.write_bytes(b"")
    prepare.prepare_imagenet64(raw, tmp_path, workers=1)
    assert contents(tmp_path) == contents(prepared[1])


def test_sets_of_tfds_that_are_no_longer_whole_are_refused(prepared, tmp_path, monkeypatch):
    out = tmp_path / "set"
    shutil.copytree(prepared[1], out)
    builder = tfds.builder("imagenet64", data_dir=out)  # stands for one of TFDS's own
    monkeypatch.setattr(tfds_official.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", lambda *arguments, **options: builder)
    monkeypatch.setattr(builder, "download_and_prepare", lambda **options: None, raising=False)
    assert prepare.prepare_tfds(None, out, name="x") == out / "imagenet64" / "1.0.0"
    next(out.rglob("*-train*")).unlink()
    with pytest.raises(ict_jax.ArgumentError, match=r"train.* holds no readable records"):
        prepare.prepare_tfds(None, out, name="x")


def test_buckets_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    makers = (
        prepare.prepare_imagenet64,
        prepare.prepare_cifar10,
        functools.partial(prepare.prepare_folder, image_size=16),
    )
    for make in makers:
        for places in (("a", "gs://b/x"), ("gs://b/x", "a")):
            with pytest.raises(ict_jax.ArgumentError, match="=gs://b/x is in a bucket, expected"):
                make(*places)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("in_memory", [True, False])
def test_labels_that_are_no_classes_are_refused(prepared, tmp_path, label, in_memory):
    """Beyond the classes Flax's Embed gives NaN, and the last one for -1."""
    shutil.copytree(prepared[1], tmp_path / "set")
    whole = tmp_path / "set" / "imagenet64" / "1.0.0"
    (shard,) = whole.glob("*-train*")
    source = tfds.builder("imagenet64", data_dir=tmp_path / "set").as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    serialize = tfds_format.Serializer(64, ("a", "b", "c"))
    examples = [(e["id"].decode(), e["image"], e["label"]) for e in source]
    writer = shards.array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
    for place, (name, png, own) in enumerate(examples):
        record = serialize(name, io.BytesIO(png), own)
        if place == 7:
            example = tf_example_pb2.Example.FromString(record)
            example.features.feature["label"].int64_list.value[0] = label
            record = example.SerializeToString()
        writer.write(record)
    writer.close()

    def read():
        data = load_data("tfds:imagenet64", data_dir=str(tmp_path / "set"), in_memory=in_memory)
        return data.train.read(np.arange(12))

    with pytest.raises(
        ict_jax.ArgumentError, match=r"imagenet64' has labels from .* expected 0 to"
    ):
        read()


def test_a_damaged_tar_of_a_class_is_not_taken_for_a_whole_one(raw, tmp_path):
    path = tarred(raw, tmp_path / "tars") / "ILSVRC2012_img_train.tar"
    with tarfile.open(path) as outer:
        member = outer.getmembers()[0]
        with tarfile.open(fileobj=outer.extractfile(member)) as inner:
            second = member.offset_data + inner.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[second : second + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(ict_jax.ArgumentError, match=r"no whole tar file \(damaged at byte"):
        prepare.prepare_imagenet64(tmp_path / "tars", tmp_path / "out", workers=1)


def test_a_damaged_tar_file_is_not_taken_for_a_whole_one(raw, tmp_path):
    path = tarred(raw, tmp_path / "tars") / "ILSVRC2012_img_train.tar"
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[second : second + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(ict_jax.ArgumentError, match=r"no whole tar file \(damaged at byte"):
        prepare.prepare_imagenet64(tmp_path / "tars", tmp_path / "out", workers=1)


def test_two_at_once_do_not_write_the_same_set(raw, tmp_path):
    with locked_directory(tmp_path / "imagenet64", "--out"):
        with pytest.raises(ict_jax.ArgumentError, match="is in use by the run with process id"):
            prepare.prepare_imagenet64(raw, tmp_path, workers=1)


def test_bad_files_are_listed_counted_and_skipped_only_with_a_flag(tmp_path):
    folder = photos(tmp_path / "photos") / "ant"
    good = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(good[:200])
    (folder / "4.jpg").write_bytes(b"")
    arguments = ("folder", f"--source={tmp_path}/photos", f"--out={tmp_path}/out")
    arguments += ("--image_size=16", "--workers=1")
    result = command("prepare", *arguments)
    assert result.returncode == 1, result.stdout
    assert result.stderr.count("\n") == 1 and "2 files cannot be used" in result.stderr
    listed = (tmp_path / "out" / "images" / "bad_files.txt").read_text()
    assert f"{folder}/3.jpg cannot be read" in listed and f"{folder}/4.jpg is empty" in listed
    with pytest.raises(ict_jax.ArgumentError, match="was not found prepared"):
        load_data("tfds:images", data_dir=str(tmp_path / "out"))
    (folder / "3.jpg").write_bytes(good)  # mended
    result = command("prepare", *arguments, "--skip_bad")
    assert result.returncode == 0, result.stderr
    assert "1 files were left out" in result.stdout
    data = load_data("tfds:images", data_dir=str(tmp_path / "out"))
    assert data.train.size + data.validation.size + data.test.size == 19
    origin = json.loads((tmp_path / "out" / "images" / "1.0.0" / "origin.json").read_text())
    assert len(origin["left_out"]) == 1 and "4.jpg" in origin["left_out"][0]


def test_cifar10_is_the_set_that_tfds_knows(tmp_path, monkeypatch):
    images, labels, checksum = archive(tmp_path)
    monkeypatch.setattr(cifar10, "CHECKSUM", checksum)
    prepare.prepare_cifar10(tmp_path, tmp_path / "out", workers=1)
    builder = tfds.builder("cifar10", data_dir=tmp_path / "out", file_format="array_record")
    assert str(builder.version) == "3.0.2" and builder.info.features["label"].num_classes == 10
    source = builder.as_data_source("train")
    for index in (0, 57, 99):
        np.testing.assert_array_equal(source[index]["image"], images[index])
        assert source[index]["label"] == labels[index]
        assert source[index]["id"] == f"train_{index:05d}".encode()
    direct = load_data("cifar10", data_dir=str(tmp_path))
    data = load_data("tfds:cifar10", data_dir=str(tmp_path / "out"))
    for mine, other in ((data.train, direct.train), (data.test, direct.test)):
        np.testing.assert_array_equal(mine.images, other.images)
        np.testing.assert_array_equal(mine.labels, other.labels)


def test_a_set_on_disk_is_read_as_one_in_memory(prepared):
    _, out = prepared
    parts = [
        load_data("tfds:imagenet64", data_dir=str(out), in_memory=choice).train
        for choice in (True, False)
    ]
    streams = [
        Batches(part, 5, seed=3, on_device=False).stream(2, 9, slice(1, 4)) for part in parts
    ]
    direct = Batches(parts[0], 5, seed=3)
    for step, batches in enumerate(zip(*streams, strict=True), start=2):
        for name, expected in direct(step, slice(1, 4)).items():
            for batch in batches:
                np.testing.assert_array_equal(batch[name], expected)
    assert step == 8
    with pytest.raises(ict_jax.ArgumentError, match="on_device=True, but the training images are"):
        Batches(parts[1], 5, seed=3, on_device=True)


def start(raw, out):
    arguments = ["imagenet64", f"--source={raw}", f"--out={out}", "--workers=2"]
    code = (
        "from ict_jax.data.prepare import shards; shards.SHARD_SIZE = 1;"
        "from ict_jax.cli import prepare; prepare.main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_preparation_goes_on_and_gives_the_same_files(raw, tmp_path, monkeypatch):
    whole = start(raw, tmp_path / "whole")
    _, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error
    killed, begun = 0, tmp_path / "out" / "imagenet64" / "1.0.0.incomplete"
    for wanted in (2, 7):  # notes of whole shards
        process = start(raw, tmp_path / "out")
        while process.poll() is None:
            if len(list(begun.glob("*.json"))) > wanted:  # and origin.json
                process.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.002)
        process.communicate()
        assert not begun.with_name("1.0.0").exists()
        with pytest.raises(ict_jax.ArgumentError, match="was not found prepared"):
            load_data("tfds:imagenet64", data_dir=str(tmp_path / "out"))
    assert killed == 2
    process = start(raw, tmp_path / "out")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and "images were written before" in out, error
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_images_do_not_go_into_a_set_that_was_begun(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shards, "_wait_for", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_imagenet64(raw, tmp_path / "out", workers=1)
    monkeypatch.undo()
    other = imagenet(tmp_path / "other", 3)
    with pytest.raises(ict_jax.ArgumentError, match="was begun from other images or options"):
        prepare.prepare_imagenet64(other, tmp_path / "out", workers=1)
    prepare.prepare_imagenet64(raw, tmp_path / "out", workers=1)
    prepare.prepare_imagenet64(raw, tmp_path / "out", workers=1)  # already there
    with pytest.raises(ict_jax.ArgumentError, match="was made from other files"):
        prepare.prepare_imagenet64(other, tmp_path / "out", workers=1)


def test_sets_of_tfds_need_tensorflow(tmp_path):
    with pytest.raises(ict_jax.ArgumentError, match=r"needs TensorFlow for it: pip install"):
        prepare.prepare_tfds(None, tmp_path, name="fashion_mnist")
