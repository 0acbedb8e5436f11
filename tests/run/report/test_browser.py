"""The page in a browser: every picture loaded, nothing to complain of, no wider than a phone."""

import re

import pytest
from etils import epath

from ict_jax.evaluation.grids import save_png
from tests.helpers import command
from tests.run.report import chromium
from tests.run.report.made import make_run, picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        chromium.find() is None, reason="chromium is not installed: apt-get install chromium"
    ),
]

WIDTHS = (375, 1280)
CHARTS = 'figure img[src^="data:image/svg"]'


@pytest.fixture(scope="module")
def tab():
    with chromium.browser() as tab:
        yield tab


def written(workdir):
    result = command("report", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a run that the trainer itself made."""
    workdir = tmp_path_factory.mktemp("run") / "digits"
    result = command("train", "--config=configs/digits.py:smoke", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return written(workdir)


def brightness(colour):
    """Of a colour as browsers write it, rgb(1, 2, 3)."""
    return sum(map(int, re.findall(r"\d+", colour)))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_with_the_page(tab, page, width, dark):
    assert chromium.faults(tab, page, width=width, dark=dark) == []
    assert tab.evaluate("document.images.length") == 13
    assert tab.evaluate(f"document.querySelectorAll('{CHARTS}').length") == 6
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = tab.evaluate("getComputedStyle(document.body).color")
    assert (brightness(paper) < brightness(ink)) == dark, (paper, ink)
    assert (
        "invert" in tab.evaluate(f"getComputedStyle(document.querySelector('{CHARTS}')).filter")
    ) == dark


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_with_wide_pictures_and_long_names(tab, tmp_path, width):
    name = "a_long_name_without_any_space_" * 4
    run = make_run(tmp_path / name, data={"name": name}, validated=(10, 20))
    save_png(epath.Path(run / "one_step.png"), picture(side=521))
    (run / "real.png").write_bytes(b"")  # so that there is a note
    page = written(run)
    page.write_text(page.read_text().replace("<details>", "<details open>"))
    assert chromium.faults(tab, page, width=width) == []


SPOILED = [
    (r'base64,[^"]{40}', "base64,AAAA", "picture not loaded: Grid of samples in one step"),
    (r'src="data:[^"]*"', 'src="grid.png"', "picture not loaded: Grid of samples in one step"),
    ("</main>", "<script>console.error('oh')</script></main>", "console: "),
    ("</main>", '<img alt="x" src="https://example.com/x.png"></main>', "console: "),
    ("</main>", '<div style="width:400px">wide</div></main>', "pixels wide in a window of 375"),
    (r"\.scroll{overflow-x:auto", ".scroll{", "pixels wide in a window of 375"),
]


@pytest.mark.parametrize(("pattern", "replacement", "fault"), SPOILED)
def test_a_spoiled_page_is_noticed(tab, page, tmp_path, pattern, replacement, fault):
    spoiled = tmp_path / "page.html"
    text, count = re.subn(pattern, lambda _: replacement, page.read_text(), count=1)
    assert count
    spoiled.write_text(text)
    found = chromium.faults(tab, spoiled, width=375)
    assert any(text.startswith(fault) or text.endswith(fault) for text in found), found


def test_a_script_that_fails_is_noticed_where_scripts_are_let_run(tab, page, tmp_path):
    text = re.sub('<meta http-equiv="[^>]*>', "", page.read_text())
    for script in ("console.error('oh')", "throw new Error('oh')", "missing()"):
        spoiled = tmp_path / "page.html"
        spoiled.write_text(text.replace("</main>", f"<script>{script}</script></main>"))
        assert any(t.startswith("console: ") for t in chromium.faults(tab, spoiled, width=1280))
    spoiled.write_text(
        text.replace("</main>", '<img alt="" src="http://localhost:9/x.png"></main>')
    )
    found = chromium.faults(tab, spoiled, width=1280)
    assert any(t.startswith("asked for http://localhost:9/x.png") for t in found)
