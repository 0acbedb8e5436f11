"""Commands, Python examples, links and line lengths of the README and the docs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_prepare import imagenet, photos
from tests.helpers import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
INSTALLING = re.compile(
    r"python3 -m venv|pip install|apt-get|pytest|pre-commit|ruff|pyright|lint-imports"
)
LINE_LIMIT = 120


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page):
    """Yield the commands of the page's bash blocks, except installs and tests (see .ci/run)."""
    for block in blocks(page, "bash"):
        lines = block.replace("\\\n", " ").splitlines()
        for line in (part.strip() for text in lines for part in text.split("&&")):
            if line and not line.startswith("#") and not INSTALLING.search(line):
                yield line


def smoke_form(line):
    """Return the command's smoke form, for this interpreter."""
    if "--dry_run" not in line:
        line = re.sub(r"(configs/\w+\.py)(:\w+)?", r"\1:smoke", line)
    if "cli.train" in line and "--workdir=runs/digits " not in f"{line} ":
        line += " --config.evaluation.at_end=False"  # scores in one run are enough
    words = shlex.split(line)
    assert words[0].removeprefix(".venv/bin/") in ("python", "ict-train"), line
    if words[0].endswith("python"):
        return [sys.executable, *words[1:]]
    return [str(Path(sys.executable).parent / "ict-train"), *words[1:]]


@pytest.mark.slow
def test_commands_run_in_the_order_of_the_page(tmp_path):
    os.symlink(ROOT / "configs", tmp_path / "configs")
    photos(tmp_path / "photos", count=30)
    imagenet(tmp_path / "imagenet")
    ran = 0
    for page in PAGES:
        for line in commands(page):
            result = subprocess.run(
                smoke_form(line),
                cwd=tmp_path,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert result.returncode == 0, f"{page.name}: {line}\n{result.stderr}"
            ran += 1
    assert ran >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {})


def test_links_and_images_exist():
    for page in PAGES:
        text = page.read_text()
        definitions = dict(re.findall(r"^\[([^]]+)\]: (\S+)$", text, re.M))
        used = re.findall(r"\]\[([^]\"]+)\]", text)
        assert sorted(set(used)) == sorted(definitions), page.name
        for target in [*re.findall(r"\]\(([^)#]+)[^)]*\)", text), *definitions.values()]:
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_lines_are_within_the_limit(page):
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [(number, line) for number, line in lines if len(line) > LINE_LIMIT] == []
