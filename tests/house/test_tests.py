"""Tests mirror the sources: src/headstart/heads/lbfgs.py has tests/heads/test_lbfgs.py, or another test that imports it."""

import ast
import fnmatch
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES, TESTS = ROOT / "src" / "headstart", ROOT / "tests"
# Modules that no test imports, and what they are tested through; `*` stands for all of a package. The list only shrinks.
TESTED_THROUGH = {
    "backbones.tensorflow_files.*": "backbones/test_tensorflow_files.py: a process of its own, with TensorFlow",
    "checks.classes": "checks/test_kinds.py: every kind of issue by the same door",
    "checks.image_quality": "checks/test_kinds.py",
    "checks.outliers": "checks/test_kinds.py",
    "codes.shelf": "codes/test_compute.py: the store's reading and writing",
    "engines.forks": "classifier/test_classifier.py: forked children predict, or say why not",
    "finetune.checkpoint": "finetune/test_loop.py: killed trainings go on",
    "finetune.device": "finetune/test_loop.py",
    "report.plots.curves": "report/plots/test_plots.py: every row of PLOTS by the same door",
    "report.plots.results": "report/plots/test_plots.py",
    "report.sentences.run_card": "report/test_page.py",
    "report.tensorboard.graph": "report/tensorboard/test_tensorboard.py: as TensorBoard reads it",
    "export.writers.*": "contracts/test_export_formats.py: every format by the same door",
    "export.card": "contracts/test_export_formats.py",
    "cli.commands.*": "stories/test_commands.py and test_run_commands.py: as a user types them",
    "training.steps.*": "training/test_train.py: whole trainings, whose every file is looked at",
}


def imported_by_tests():
    names = set()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    return names


def test_every_module_has_tests():
    imported, lacking = imported_by_tests(), set()
    for path in SOURCES.rglob("*.py"):
        place = path.relative_to(SOURCES).with_suffix("")
        module = ".".join(place.parts)
        has_file = (TESTS / place.parent / f"test_{place.name}.py").exists()
        if place.name not in ("__init__", "__main__") and not has_file and f"headstart.{module}" not in imported:
            lacking.add(module)
    listed = {pattern: set(fnmatch.filter(lacking, pattern)) for pattern in TESTED_THROUGH}
    untested = sorted(lacking.difference(*listed.values()))
    assert not untested, f"no test imports {untested}: write tests/<package>/test_<module>.py"
    unneeded = [pattern for pattern, modules in listed.items() if not modules]
    assert not unneeded, f"{unneeded} have tests by now, or are gone: take their lines away"


def test_a_file_of_tests_stands_in_the_folder_of_what_it_tests():
    """Beside the packages, there are folders of tests that are about no single one."""
    packages = {p.parent.relative_to(SOURCES).as_posix() for p in SOURCES.rglob("__init__.py")}
    folders = {p.parent.relative_to(TESTS).as_posix() for p in TESTS.rglob("test_*.py")}
    assert folders <= packages | {"contracts", "house", "pages", "stories"}
    ground = {p.stem for p in SOURCES.glob("*.py")}
    assert {p.stem.removeprefix("test_") for p in TESTS.glob("test_*.py")} <= ground


def test_files_of_tests_say_what_they_are_about():
    assert not [path for path in TESTS.rglob("test_*.py") if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]


def test_every_test_asserts_something():
    """A test that cannot fail is a defect: it asserts, expects an error, or calls a function of its file that does."""
    idle = []
    for path in TESTS.rglob("test_*.py"):
        functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
        asserting = {node.name for node in functions if re.search(r"\bassert|pytest\.raises", ast.unparse(node))}
        for node in functions:
            called = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
            if node.name.startswith("test_") and node.name not in asserting and not called & asserting:
                idle.append(f"{path.relative_to(TESTS)}: {node.name}")
    assert not idle, "\n".join(idle)
