"""CONTRIBUTING.md's changes fit the sources and do what it says, and its tools are the ones that make runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headstart

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS = {part.split("\n")[0]: part for part in TEXT.split("\n### ")[1:]}
# What holds once a change is applied: run in a process of its own, on a copy of the sources.
CHECKS = {
    "A backbone": """
from headstart.backbones.builtin import BACKBONES, is_installed

assert BACKBONES["efficientnet-lite3"].size == 280 and not is_installed(BACKBONES["efficientnet-lite3"])
""",
    "A head": """
import numpy as np
from headstart.heads.kinds import HEADS

kind = HEADS["nearest-one"]
fitter = kind.fitter(np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1]), 2)
head = fitter.head(fitter.fit(kind.strengths[0]))
assert head.probabilities(np.eye(4, dtype=np.float32)).argmax(axis=1).tolist() == [0, 0, 1, 1]
""",
    "A view": """
import numpy as np
from headstart.data.views import parse_views, view_pixels

assert str(parse_views("grey")[0]) == "grey"
assert view_pixels(np.full((2, 2, 3), (0, 30, 60), np.uint8), "grey", b"", 0).tolist() == [[[30] * 3] * 2] * 2
""",
    "An issue kind": """
from headstart.checks.image_quality import BOUNDS
from headstart.checks.kinds import KINDS

assert KINDS["huge"].title == "Huge photos" and BOUNDS["huge"].limit < BOUNDS["huge"].sure
""",
    "A plot": """
from headstart.report.plots.table import PLOTS

figure = PLOTS["class-sizes"].draw({"images_of_class": {"daisy": 3, "roses": 5}}, None, {})
assert [bar.get_width() for bar in figure.axes[0].patches] == [3, 5]
""",
}


def diffs_in(text):
    return re.findall(r"^```diff\n(.*?)^```", text, re.M | re.S)


def apply(diff, root):
    """Apply a diff whose hunks are found by their lines, not by line numbers, which would be wrong soon."""
    for part in re.split(r"^--- .*\n\+\+\+ ", diff, flags=re.M)[1:]:
        name, *hunks = re.split(r"\n?^@@.*\n", part, flags=re.M)
        path = root / name.strip().removeprefix("b/")
        text = path.read_text()
        for hunk in hunks:
            lines = hunk.rstrip("\n").split("\n")
            before = "\n".join(line[1:] for line in lines if line[:1] != "+")
            after = "\n".join(line[1:] for line in lines if line[:1] != "-")
            assert f"\n{text}\n".count(f"\n{before}\n") == 1, f"{path.name} has other lines by now; expected once:\n{before}"
            text = f"\n{text}\n".replace(f"\n{before}\n", f"\n{after}\n")[1:-1]
        path.write_text(text)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the sources with every change applied."""
    root = tmp_path_factory.mktemp("contributing")
    shutil.copytree(
        Path(headstart.__file__).parent, root / "src" / "headstart", ignore=shutil.ignore_patterns("__pycache__")
    )
    for text in SECTIONS.values():
        for diff in diffs_in(text):
            apply(diff, root)
    return root


def test_each_kind_of_row_has_a_change_and_a_check():
    assert {name: len(diffs_in(text)) for name, text in SECTIONS.items()} == dict.fromkeys(CHECKS, 1)


def test_each_change_does_what_it_says(changed):
    pytest.importorskip("matplotlib")
    code = "\n".join(CHECKS.values())
    code += f"\nimport headstart\nassert headstart.__file__.startswith({str(changed)!r})\nprint('all applied')"
    path = os.pathsep.join([str(changed / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout == "all applied\n", done.stderr


def test_none_of_the_rows_is_there_already():
    """Else the changes would prove nothing."""
    sources = "\n".join(path.read_text() for path in Path(headstart.__file__).parent.rglob("*.py"))
    for word in ("efficientnet-lite3", "nearest-one", 'ViewKind("grey"', '"huge"', "class_sizes"):
        assert word in TEXT and word not in sources


def test_a_change_that_does_not_fit_is_noticed(tmp_path):
    (tmp_path / "a.py").write_text("one\ntwo\n")
    apply("--- a/a.py\n+++ b/a.py\n@@ here\n one\n-two\n+three\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "one\nthree\n"
    with pytest.raises(AssertionError, match="other lines by now"):
        apply("--- a/a.py\n+++ b/a.py\n@@ here\n two\n+four\n", tmp_path)


def test_the_hooks_run_what_make_runs():
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    made = re.findall(r"\$\(BIN\)/((?:ruff|mypy).*)", (ROOT / "Makefile").read_text())
    assert hooks and hooks == made


def test_the_workflow_covers_what_is_promised():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert {*re.findall(r'"(3\.\d+)"', text)} == {"3.11", "3.12", "3.13", "3.14"}
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} <= {*re.findall(r"\b\w+-latest\b", text)}
    assert "lowest-direct" in text and text.count("install-chromium.sh") == 3 and "://" not in text
