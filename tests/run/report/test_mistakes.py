"""The page about a run: damaged files, wrong arguments, places that cannot be written to."""

import errno
import json
import os
import shutil
import subprocess
import sys
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from etils import epath
from PIL import Image

from ict_jax.core.errors import NotSaved
from ict_jax.run.report.page import report
from ict_jax.run.report.read_run import read_run
from ict_jax.runtime.storage import write_atomically
from tests.cli.test_commands import in_process, in_this_process
from tests.fake_gcs import fake_gcs
from tests.helpers import ROOT
from tests.run.report.made import Page, make_run, write_events


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def quiet(copy):
    """A copy without events, whose page is made in no time."""
    for file in copy.glob("events*tfevents*"):
        file.unlink()
    return copy


def mistakes(tmp_path, run):
    """Arguments, and what the one sentence must contain."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "dir.html").mkdir()
    (tmp_path / "file").write_text("")
    for name, text in (
        ("broken", "{"),
        ("list", "[]"),
        ("other", "{}"),
        ("binary", "\udcff"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    work = f"--workdir={run}"
    return [
        ([], "--workdir is missing; give it, as in --workdir=runs/digits"),
        ([f"--workdir={tmp_path}/no"], "/no does not exist; give the work directory of a run"),
        ([f"--workdir={tmp_path}/file"], "/file is a file; give the work directory of a run"),
        ([f"--workdir={tmp_path}/empty"], "/empty holds no run: there is no config.json"),
        ([f"--workdir={tmp_path}/broken"], "broken/config.json is not the config of a run (Expec"),
        ([f"--workdir={tmp_path}/list"], "(it holds a list, expected an object)"),
        ([f"--workdir={tmp_path}/other"], "(total_steps is None); start the run again"),
        ([f"--workdir={tmp_path}/binary"], "is not the config of a run ('utf-8' codec"),
        ([work, f"--out={tmp_path}/page"], "/page does not end in .html; name the page, as in"),
        ([work, f"--out={tmp_path}/dir.html"], "/dir.html is a directory; give the name of a file"),
        ([work, f"--out={tmp_path}/file/a.html"], "/file cannot be written to (File exists)"),
        ([work, "page.html"], "unexpected argument ['page.html']"),
        ([work, "--nonsense=1"], "nonsense"),
    ]


@in_this_process
def test_every_mistake_gives_one_sentence(tmp_path, run, user_errors, monkeypatch, capsys):
    for arguments, message in mistakes(tmp_path, run):
        code, _, error = in_process("report", arguments, monkeypatch, capsys)
        assert code == 1 and error.startswith("error: ") and error.count("\n") == 1, error
        assert message in error and "Traceback" not in error, error
    assert not (run / "report.html").exists()


@in_this_process
def test_the_command_writes_into_the_work_directory_or_out(quiet, tmp_path, monkeypatch, capsys):
    code, out, error = in_process("report", [f"--workdir={quiet}"], monkeypatch, capsys)
    assert (code, error) == (0, "") and f"written: {quiet}/report.html" in out
    asked = tmp_path / "new" / "digits.html"
    arguments = [f"--workdir={quiet}", f"--out={asked}"]
    assert in_process("report", arguments, monkeypatch, capsys)[0] == 0
    page = asked.read_bytes()
    assert page.startswith(b"<!doctype html>") and len(page) == len(
        (quiet / "report.html").read_bytes()
    )
    assert in_process("report", ["--help"], monkeypatch, capsys)[0] == 0


@in_this_process
def test_without_matplotlib_one_sentence_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, error = in_process("report", [f"--workdir={run}"], monkeypatch, capsys)
    assert code == 1 and error.endswith("run pip install matplotlib.\n")


def test_a_cut_file_of_events_is_read_up_to_the_cut(copy):
    (file,) = copy.glob("events*tfevents*")
    file.write_bytes(file.read_bytes()[:-7])
    record = read_run(copy)
    assert list(record.scalars["train/loss"]) == [5, 10, 15]
    assert record.step == 20 and record.finished  # says the checkpoint
    page = Page(report(record))
    assert f"What could not be read {file.name} ends within a record" in page.text


def test_flipped_bits_in_events_are_noticed(copy):
    (file,) = copy.glob("events*tfevents*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    record = read_run(copy)
    assert 5 in record.scalars["train/loss"] and 20 not in record.scalars["train/loss"]
    assert len(record.notes) == 1


def test_events_of_a_resumed_run_are_read_after_a_cut_file(copy):
    (file,) = copy.glob("events*tfevents*")
    file.write_bytes(file.read_bytes()[:-7])
    write_events(copy, {20: {"train/loss": 7.0}})
    assert read_run(copy).scalars["train/loss"][20] == 7.0


@pytest.mark.parametrize("content", [b"", b"no events at all", bytes(100)])
def test_a_file_that_holds_no_events_is_no_hindrance(copy, content):
    (copy / "events.out.tfevents.9999999999.host.1.0").write_bytes(content)
    record = read_run(copy)
    assert list(record.scalars["train/loss"]) == [5, 10, 15, 20]
    assert len(record.notes) == bool(content)


def test_pictures_that_cannot_be_read_are_named_and_left_out(quiet):
    whole = (quiet / "real.png").read_bytes()
    (quiet / "real.png").write_bytes(whole[: len(whole) // 2])
    changed = bytearray((quiet / "one_step.png").read_bytes())
    changed[35] = 0
    (quiet / "one_step.png").write_bytes(changed)
    other = quiet / "samples" / "one_step_00000010.png"
    Image.open(other).save(other, "GIF")
    (quiet / "two_step.png").unlink()
    (quiet / "two_step.png").mkdir()
    page = Page(report(read_run(quiet)))
    assert "one_step_00000010.png cannot be read (no PNG file)." in page.text
    assert "one_step.png cannot be read (broken PNG file" in page.text
    assert "real.png cannot be read (" in page.text and "two_step.png cannot be" in page.text
    assert page.alts() == [
        "Grid of samples in one step at step 20",
        "Grid of samples in two steps at step 20",
        "Grid of training images",
        "Samples in two steps at step 10",
        "Samples in two steps at step 20",
    ]


def test_damaged_scores_and_another_config_are_noted(quiet):
    (quiet / "scores.json").write_text('{"step": ')
    values = json.loads((quiet / "config.json").read_text())
    values["discretization"]["s1"] = "many"
    values["model"] = "\ud800"
    (quiet / "config.json").write_text(json.dumps(values))
    page = Page(report(read_run(quiet)))
    assert "scores.json cannot be read (Expecting value" in page.text
    assert "There are no scores in this work directory yet." in page.text
    assert "N(k) cannot be computed from config.json" in page.text


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ({}, "Scores scores.json {}"),
        ({"scores": [1], "extractor": 1}, 'scores.json { "scores": [ 1 ], "extractor": 1 }'),
        ({"scores": {"a": 1, "b": {"fid": {"value": "x"}}}}, "÷ floor fid b - - - At step -, in"),
        ({"one_step": 3, "floor": {"fd": "x"}, "step": "x"}, "against real - - - - - At step -"),
        ({"one_step": {"fd": 1.0}}, "confident one step - - 1.0000 - - At step -, in features"),
        (
            {"one_step": {}, "nearest_training_image": {"one_step": {"<b>": 1}}},
            "copies have 0 median 5th percentile one step - -",
        ),
    ],
)
def test_scores_of_another_form_are_shown_as_far_as_they_go(quiet, scores, text):
    (quiet / "scores.json").write_text(json.dumps(scores))
    (quiet / "scores_x.json").write_text(json.dumps(scores))
    assert text in Page(report(read_run(quiet))).text


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "page.html")
    write_atomically(path, b"old", "--out")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(NotSaved, match=r"page.html cannot be written \(No space left"):
        write_atomically(path, b"new", "--out")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_bytes() == b"old"


def report_in(service, *arguments):
    """Runs the command against the stand-in for the service of buckets."""
    result = subprocess.run(
        [sys.executable, "-m", "ict_jax.cli.report", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **service.environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.slow
def test_a_run_in_a_bucket_has_the_same_page(run, tmp_path):
    pytest.importorskip("gcsfs")
    with fake_gcs() as service:
        for path in run.rglob("*"):
            if path.is_file():
                name = quote(f"digits/{path.relative_to(run)}", safe="")
                url = f"{service.url}/upload/storage/v1/b/bkt/o?uploadType=media&name={name}"
                urlopen(Request(url, path.read_bytes())).close()
        held = set(service.buckets["bkt"])
        for _ in ("new", "over the one that is there"):
            code, out, error = report_in(service, "--workdir=gs://bkt/digits")
            assert code == 0, error
            assert "written: gs://bkt/digits/report.html" in out
        assert set(service.buckets["bkt"]) - held == {"digits/report.html"}
        code, _, error = report_in(service, "--workdir=gs://bkt/none")
        assert code == 1 and "gs://bkt/none does not exist" in error and error.count("\n") == 1
        page = Page(service.buckets["bkt"]["digits/report.html"][1])
    # An empty directory does not come into a bucket: the log says there that the run is finished.
    assert page.tags == Page(report(read_run(run))).tags
