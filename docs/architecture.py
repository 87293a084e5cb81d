"""Writes docs/architecture.md from the first sentences of all docstrings: `python docs/architecture.py`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "src" / "headstart"
# A package imports only those that stand before it; tests/house/test_imports.py holds it.
ORDER = (
    *(
        "errors",
        "wording",
        "progress",
        "versions",
        "files",
        "cache_folder",
        "safety",
        "record",
        "numerics",
        "data",
        "engines",
    ),
    *("backbones", "codes", "heads", "evaluation", "selection", "trust", "classifier", "finetune", "checks", "runs"),
    *("report", "training", "cli"),
)
INTRODUCTION = """\
# Architecture

headstart turns a folder of photos into a classifier. A folder of `src/headstart/` is a stage on that way, and a file is one
idea of its stage:

    photos -> data -> backbones and engines -> codes -> heads -> selection -> trust -> classifier -> runs -> report

`training/` has the recipes that take photos all the way, and `cli/` the commands. A package imports only packages that stand
above it on this page, and no two modules import each other; `tests/house/` holds both, for every form of import.
Where things live that have no file of their own: the `web/` folder of `report/` has the scripts and styles of the pages, and
`classifier/imagenet_classes.txt` the 1,000 names of ImageNet's classes.

This page is written by `python docs/architecture.py` from the docstrings. Do not edit it.
"""


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, in one line, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"\.(?= [A-Z`(]|$)", paragraph)[0]


def modules_of(folder: Path) -> list[str]:
    """A line for each module of a folder."""
    paths = sorted(p for p in folder.glob("*.py") if p.stem != "__init__")
    return [f"- `{path.stem}`: {first_sentence(path)}" for path in paths]


def section(name: str) -> list[str]:
    """The part of the page about one package, or about one module of the top folder."""
    path = SOURCES / name
    if not path.is_dir():
        return []
    lines = ["", f"## {name}/", "", f"{first_sentence(path / '__init__.py')}.", "", *modules_of(path)]
    for inner in sorted(p.parent for p in path.glob("*/__init__.py")):
        lines += ["", f"### {name}/{inner.name}/", "", f"{first_sentence(inner / '__init__.py')}.", "", *modules_of(inner)]
    return lines


def page() -> str:
    """The whole page."""
    ground = [f"- `{name}`: {first_sentence(SOURCES / f'{name}.py')}" for name in ORDER if (SOURCES / f"{name}.py").exists()]
    lines = [INTRODUCTION, "## The ground", "", "Modules that any other may import.", "", *ground]
    for name in ORDER:
        lines += section(name)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "architecture.md").write_text(page())
