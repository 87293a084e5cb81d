"""The house: imports run one way, documents say what is there, and importing costs nothing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from headstart.cli import main
from headstart.data import decoding

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "headstart"
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


def test_importing_headstart_imports_nothing_else():
    code = (
        "import sys, headstart; print(len([m for m in ('numpy', 'openvino', 'cv2', 'onnx', 'sklearn') if m in sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


def test_every_public_name_is_there():
    code = "import headstart; print([getattr(headstart, name).__name__ for name in headstart.__all__])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'train'" in out and "'HeadstartClassifier'" in out


def parsers_below(parser):
    """The parser of each command that may be typed after another, by its name; `train` of `headstart train`."""
    return next((a.choices for a in parser._actions if isinstance(a.choices, dict)), {})


def test_every_command_and_option_is_documented():
    def check(command, parser):
        options = {o for a in parser._actions for o in a.option_strings} - {"-h", "--help"}
        assert not {o for o in options if f"`{o}" not in COMMANDS}, command
        for name, below in parsers_below(parser).items():
            assert name in COMMANDS
            check(f"{command} {name}", below)

    commands = parsers_below(main.build_parser())
    for command, parser in commands.items():
        assert f"## headstart {command}" in COMMANDS
        check(command, parser)
    headings = re.findall(r"^## headstart (\w+)", COMMANDS, re.M)
    assert headings == [*commands]  # in the order of --help


def test_every_status_is_documented():
    assert not {status for status in decoding.FAILURES if f"`{status}`" not in COMMANDS}


def test_the_readme_fits_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 150
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_readmes_commands_are_commands():
    used = set(re.findall(r"^(?:\.venv/bin/)?headstart (\w+)", README, re.M))
    assert used and used <= parsers_below(main.build_parser()).keys()


def test_no_message_cuts_a_list_without_a_word():
    """What is cut in the midst of a sentence says so: wording.listed does."""
    for path in SOURCES.glob("*.py"):
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
