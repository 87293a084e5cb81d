"""The documents say what is there: every command, option, key and row of a table, and examples that run."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pytest
from PIL import Image

from headstart import record
from headstart.checks.fixes import ACTIONS
from headstart.checks.kinds import KINDS
from headstart.classifier.metadata import ClassifierMetadata
from headstart.classifier.prediction import Prediction
from headstart.cli import main
from headstart.data import decoding
from headstart.data.formats import FORMATS
from headstart.data.views import VIEWS
from headstart.heads.kinds import HEADS
from headstart.report.plots.table import PLOTS
from headstart.runs.findings import ARRAYS
from support.photos import write_photos

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "headstart"
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
COMMANDS = {name: text for name, text in PAGES.items() if name.startswith(("docs/commands/", "docs/old-commands"))}
ALL = {
    **PAGES,
    **{name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")},
}


def parsers(parser=None, name="headstart"):
    """Every command with its parser: `headstart train`, `headstart backbones import`."""
    for action in (parser or main.build_parser())._actions:
        if isinstance(action.choices, dict):
            for word, inner in action.choices.items():
                yield f"{name} {word}", inner
                yield from parsers(inner, f"{name} {word}")


def names_in(text):
    """The words that stand in backquotes."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in (*re.split(r"[\s,]+", code), *code.split("."))}


def keys_of(kind):
    """Every key of a TypedDict and of those within it."""
    if is_typeddict(kind):
        for key, inner in get_type_hints(kind).items():
            yield key
            yield from keys_of(inner)
    elif get_origin(kind) is Annotated:
        yield from keys_of(get_args(kind)[0])
    else:
        for inner in get_args(kind):
            yield from keys_of(inner)


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def anchor(heading):
    """A heading's address, as GitHub and most generators make it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")


# ---- the package


def test_importing_headstart_imports_nothing_else():
    code = (
        "import sys, headstart; print(len([m for m in ('numpy', 'openvino', 'cv2', 'onnx', 'sklearn') if m in sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


def test_every_public_name_is_there():
    code = "import headstart; print([getattr(headstart, name).__name__ for name in headstart.__all__])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'train'" in out and "'HeadstartClassifier'" in out


def test_no_message_cuts_a_list_without_a_word():
    """What is cut in the midst of a sentence says so: wording.listed does."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FormattedValue):
                cut = [
                    part
                    for call in ast.walk(node.value)
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "join"
                    for part in call.args
                    if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Slice) and part.slice.lower is None
                ]
                assert not cut or path.name == "wording.py", f"{path.name}, line {node.lineno}"


def test_modules_that_documents_name_exist():
    packages = "|".join(sorted(path.parent.name for path in SOURCES.glob("*/__init__.py")))
    for name, text in ALL.items():
        if name not in ("docs/LOG.md", "CHANGELOG.md"):
            for module in re.findall(rf"`((?:{packages})/[\w/*.]*)`", text):
                found = [*SOURCES.glob(module.rstrip("/")), *SOURCES.glob(f"{module}.py")]
                assert found, f"{name}: {module}"


# ---- commands


def test_every_command_and_option_is_documented():
    """An option stands on its command's page, and what several commands share on the index as well."""
    shared = names_in(COMMANDS["docs/commands/index.md"].split("### Shared options")[1].split("\n##")[0])
    for command, parser in parsers():
        pages = [text for text in COMMANDS.values() if re.search(rf"^## {command}( |$)", text, re.M)]
        if not pages and len(command.split()) > 2:  # `headstart cache prune` stands on the page of `headstart cache`
            pages = [text for text in COMMANDS.values() if re.search(rf"`{command}[ `]", text)]
        assert len(pages) == 1, command
        options = {o for a in parser._actions for o in a.option_strings} - {"-h", "--help"}
        assert not options - names_in(pages[0]) - shared, command


def test_the_index_lists_every_command():
    index = COMMANDS["docs/commands/index.md"]
    assert not {command for command, _ in parsers() if f"`{command}" not in index and len(command.split()) == 2}


def test_every_documented_option_exists():
    options = {o for _, parser in parsers() for a in parser._actions for o in a.option_strings}
    options |= {"--version", "--help", "--logdir", "--nproc-per-node", "--bugdet"}
    documented = {word for text in ALL.values() for word in names_in(text) if re.fullmatch(r"--[a-z][a-z-]+", word)}
    elsewhere = names_in(PAGES["docs/LOG.md"] + ALL["benchmarks/README.md"] + ALL["CONTRIBUTING.md"])
    assert not documented - options - elsewhere


def test_every_row_of_the_tables_is_documented():
    data, train, issues = (
        PAGES["docs/data.md"],
        COMMANDS["docs/commands/train.md"],
        COMMANDS["docs/commands/check-and-evaluate.md"],
    )
    assert not {status for status in decoding.FAILURES if f"| `{status}` |" not in data}
    assert not {image_format.name for image_format in FORMATS if image_format.name not in data}
    assert not {*HEADS} - names_in(train)
    assert not {*KINDS, *ACTIONS} - names_in(issues)
    assert not {*PLOTS} - names_in(COMMANDS["docs/commands/report-map-plot.md"])
    assert not {
        f"| `{view}` |" for view in VIEWS if f"| `{view}` |" not in COMMANDS["docs/commands/backbones-views-cache.md"]
    }


def test_every_key_of_the_files_is_documented():
    assert not {*keys_of(record.RunRecord)} - names_in(PAGES["docs/run-json.md"])
    assert not {*keys_of(record.IssuesRecord)} - names_in(PAGES["docs/run-folder.md"]) - {"issues"}
    assert not {*keys_of(ClassifierMetadata)} - names_in(PAGES["docs/run-folder.md"])
    assert not {*ARRAYS} - names_in(PAGES["docs/run-folder.md"])
    assert not {*Prediction.__dataclass_fields__} - names_in(COMMANDS["docs/commands/predict-and-explain.md"])


# ---- pages


def test_pages_are_short():
    """A page is about one thing; the log and the list of modules grow."""
    long = {name: n for name, text in ALL.items() if (n := len(text.splitlines())) > 150}
    assert long.keys() <= {"docs/LOG.md", "docs/architecture.md", "CHANGELOG.md"}, long


def test_the_readme_lists_every_package():
    stages = "\n".join(re.findall(r"^\|.*", README.split("in seven stages")[1], re.M))
    assert names_in(stages) == {path.parent.name for path in SOURCES.glob("*/__init__.py")}


@pytest.mark.parametrize("name", ALL)
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", ALL[name], flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert ":" not in target, f"{name}: {target} is outside of the repository"
        page, _, place = target.partition("#")
        path = (ROOT / name).parent / page if page else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if place:
            headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", path.read_text(), re.M)}
            assert place in headings, f"{name}: {target}"


def test_every_page_is_linked_from_the_index():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)]+)\)", PAGES["docs/index.md"])}
    assert not {name for name in PAGES if name != "docs/index.md" and (ROOT / name).resolve() not in linked}


def test_commands_in_the_documents_are_commands():
    commands = {name.split()[1] for name, _ in parsers()}
    for name, text in ALL.items():
        used = {
            word for block in blocks(text, "sh") for word in re.findall(r"^(?:\S*bin[/\\])?headstart (\w+)", block, re.M)
        }
        assert used <= commands, name
    assert "train" in {word for word in re.findall(r"headstart (\w+)", README)}


def test_the_words_are_those_of_the_glossary():
    """One word per idea (docs/architecture.md)."""
    for name, text in PAGES.items():
        if name not in ("docs/LOG.md", "docs/architecture.md", "docs/old-commands.md"):
            banned = re.search(r"\b(embeddings?|bottlenecks?|samples?(?! size)|encoders?)\b", text)
            assert not banned, f"{name}: {banned}"


# ---- examples


def test_the_examples_of_the_library_run(tmp_path, monkeypatch, deep_onnx):
    """docs/library.md from top to bottom, on a backbone that compiles in milliseconds."""
    pytest.importorskip("matplotlib")
    text = PAGES["docs/library.md"]
    code = "\n".join(blocks(text, "python"))
    code = code.replace('headstart.train("photos", "run"', 'headstart.train("photos", "run", backbone=BACKBONE')
    code = code.replace('check_photos("photos"', 'check_photos("photos", backbone=BACKBONE')
    code = code.replace("HeadstartClassifier(", "HeadstartClassifier(BACKBONE")
    assert code.count("BACKBONE") == 4
    write_photos(tmp_path / "photos", n=12)
    write_photos(tmp_path / "more_photos", n=14)  # the first twelve are learnt from, and left out
    Image.fromarray(np.full((40, 40, 3), (200, 30, 30), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {"BACKBONE": str(deep_onnx)}
    exec(compile(code, "docs/library.md", "exec"), names)  # noqa: S102
    assert names["run"].evaluation.accuracy > 0.9
    assert names["prediction"].set
    assert names["scores"].mean() > 0.9
    assert {"model.onnx", "curves.png", "map.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_example_of_run_json_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos-run").mkdir()
    (tmp_path / "photos-run" / "run.json").write_text(
        '{"evaluation": {"accuracy": 0.9, "interval": [0.6, 0.98]}, "choice": {"head": "softmax"}}'
    )
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(PAGES["docs/run-json.md"], "python")
    exec(compile(code, "docs/run-json.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "photos-run: 90.0% (60.0% to 98.0%), softmax\n"
