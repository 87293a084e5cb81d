"""What strangers' names do on a terminal and in a spreadsheet: nothing."""

import argparse
import contextlib
import csv
import io
import json
import logging
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.checks.fixes import apply_fixes, propose, read_fixes, write_fixes
from headstart.checks.issue import Issue
from headstart.classifier import writers
from headstart.classifier.prediction import Prediction
from headstart.cli import console, main
from headstart.data.datasets import load_dataset
from headstart.errors import DataError
from headstart.runs.folder import PredictionRow, write_tables
from headstart.safety.csv_cells import from_cell, to_cell
from headstart.safety.terminal_text import (
    HarmlessBytes,
    HarmlessFormatter,
    HarmlessStream,
    harmless,
    harmless_line,
    raw_stream,
)
from support.photos import COLOURS, picture, write_photos

HOSTILE = "\x1b]0;owned\x07\x1b[2Jx\r\x9b31my\u202egnp\u2066z\u2028"
HARM = set("\x1b\x07\r\x9b\u202e\u2066\u2028")


def is_harmless(text):
    return not HARM & set(text)


# ---- terminals


def test_what_moves_the_cursor_or_turns_words_round_is_a_question_mark():
    assert harmless(HOSTILE) == "?]0;owned??[2Jx??31my?gnp?z?"
    assert harmless("two\nlines\tand \U0001f469\u200d\U0001f680 日本 وردة caf\udce9") == (
        "two\nlines\tand \U0001f469\u200d\U0001f680 日本 وردة caf\udce9"
    )
    assert harmless_line("a.jpg\nheadstart: all is well") == "a.jpg?headstart: all is well"


def test_a_stream_is_itself_but_for_what_is_harmful():
    text, content = io.StringIO(), io.BytesIO()
    stream = HarmlessStream(text)
    print(HOSTILE, file=stream)
    stream.writelines([HOSTILE, "\n"])
    assert is_harmless(text.getvalue()) and text.getvalue().count("owned") == 2
    assert stream.isatty() is False and raw_stream(HarmlessStream(stream)) is text
    HarmlessBytes(content).write(f"{HOSTILE},b\n".encode())
    assert is_harmless(content.getvalue().decode()) and content.getvalue().endswith(b",b\n")


@pytest.fixture
def printed(capsys, monkeypatch):
    """What a command prints that does no more than `act`."""

    def run(act):
        parser = argparse.ArgumentParser()
        parser.set_defaults(run_command=lambda _: act() or 0, command="x")
        monkeypatch.setattr(main, "build_parser", lambda: parser)
        monkeypatch.setattr(main, "is_helper_process", lambda: False)
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            main.main([])
        out, err = capsys.readouterr()
        return out + err

    return run


def refuse():
    raise DataError(f"{HOSTILE}\nheadstart: a line of its own is not there")


WAYS = {
    "print": lambda: print(HOSTILE),  # noqa: T201
    "print to stderr": lambda: print(HOSTILE, file=sys.stderr),  # noqa: T201
    "an error": refuse,
    "argparse": lambda: argparse.ArgumentParser().error(HOSTILE),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_prints_it_a_command_prints_nothing_harmful(printed, way):
    out = printed(WAYS[way])
    assert "owned" in out and is_harmless(out)
    if way == "an error":
        assert len(out.splitlines()) == 1


def test_the_log_is_harmless_too():
    record = logging.LogRecord("headstart", logging.WARNING, "", 0, "the cache %s", (HOSTILE,), None)
    line = HarmlessFormatter("headstart: %(message)s").format(record)
    assert line.startswith("headstart: the cache ") and "owned" in line and is_harmless(line)


def test_progress_bars_still_move(capsys, monkeypatch):
    stream = HarmlessStream(sys.stderr)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(stream.stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.Progress() as progress:
        progress("codes", 1, 2)
        progress("codes", 2, 2)
    assert "\x1b[" in capsys.readouterr().err


def test_files_and_folders_with_hostile_names_are_told_harmlessly(tmp_path, tiny_onnx, capsys):
    photos = write_photos(tmp_path / "photos", n=6)
    (photos / "red").rename(photos / f"red{HOSTILE}")
    (photos / f"red{HOSTILE}" / f"{HOSTILE}.png").write_text("no photo")
    new = write_photos(tmp_path / "new", n=2)
    (new / "green").rename(new / f"unknown{HOSTILE}")
    (new / "red" / f"{HOSTILE}.png").write_text("no photo")
    (new / "red").rename(new / f"red{HOSTILE}")
    for i in range(2):  # other photos than those of the training
        Image.fromarray(picture(COLOURS["red"], 900 + i)).save(new / f"red{HOSTILE}" / f"new {i}{HOSTILE}.png")
    run = tmp_path / f"run{HOSTILE}"
    own = [str(photos / f"red{HOSTILE}" / f"{HOSTILE}.png")]
    for arguments, status in (
        (["train", photos, "-o", run, "--backbone", tiny_onnx, "--budget", "0"], 0),
        (["evaluate", run, new, "-o", tmp_path / "e"], 0),
        (["check", photos, "--backbone", tiny_onnx, "--fix-list", tmp_path / f"f{HOSTILE}.csv"], 0),
        (["predict", run, *own], 1),
        (["predict", run, tmp_path / f"nowhere{HOSTILE}"], 1),
        (["train", tmp_path / f"nowhere{HOSTILE}"], 1),
        (["report", tmp_path / f"nowhere{HOSTILE}"], 1),
        (["explain", run, own[0]], 1),
        (["map", run, "-o", tmp_path / f"m{HOSTILE}.html"], 0),
        (["map", run, "--add", own[0], "-o", tmp_path / "m.html"], 1),
        (["plot", run, "--kind", "curves", "-o", tmp_path / f"p{HOSTILE}.png"], 0),
    ):
        assert main.main([str(a) for a in arguments]) == status, arguments
        out, err = capsys.readouterr()
        assert is_harmless(out) and is_harmless(err) and "owned" in out + err, arguments


def test_a_table_of_predictions_is_exact_in_a_file_and_harmless_on_a_terminal(tmp_path, capsysbinary, monkeypatch):
    prediction = Prediction(f"{HOSTILE}.jpg", "ok", None, "cat", 0.9, (("cat", 0.9),))
    for is_shown in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda shown=is_shown: shown)
        with console.rows_output(None, overwrite=False) as file, writers.csv_rows(file) as write:
            write(prediction)
        out = capsysbinary.readouterr().out.decode()
        assert is_harmless(out) is is_shown and (f"{HOSTILE}.jpg" in out) is not is_shown


# ---- spreadsheets

FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "'=1",
    "''@x",
    " =1",
    "\uff1d1",
    "a;=1",
    "a\n=1",
    "a\r\n-x",
    "=",
    "-;-",
    "\xa0+1",
)
PLAIN = ("a", "", "a=b", "a-b.jpg", "it's", "'quoted'", "a;b", "1", "\ta", "日本", "caf\udce9", "a; b")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_has_an_apostrophe_before_it(text):
    cell = to_cell(text)
    assert cell != text and from_cell(cell) == text
    for part in cell.replace("\r", ";").replace("\n", ";").replace("\t", ";").split(";"):
        assert not part.strip(" \xa0").startswith(("=", "+", "-", "@", "\uff1d"))


@pytest.mark.parametrize("text", PLAIN)
def test_all_else_stands_as_it_is(text):
    assert to_cell(text) == text == from_cell(text)


@given(st.text(alphabet="='+-@;\t\r\n \xa0\uff1da", max_size=12))
def test_any_text_comes_back_as_it_was(text):
    assert from_cell(to_cell(text)) == text


def cells(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


ODD = ("=cmd|' /C calc'!A0", "+1", "-x", "@y", "'=z", "a;=1")


def is_safe(cell):
    return not cell.lstrip(" \t").startswith(("=", "+", "-", "@"))


def test_the_tables_of_a_run_hold_no_formula_and_every_name(tmp_path):
    held_out = [PredictionRow(f"{name}.jpg", "test", name, name, 0.5) for name in ODD]
    write_tables(tmp_path, ODD, held_out, [(name, f"{name} is broken") for name in ODD])
    for file, column in (("predictions.csv", 0), ("predictions.csv", 2), ("skipped.csv", 0)):
        header, *found = cells(tmp_path / file)
        assert all(is_safe(cell) for row in found for cell in row)
        suffix = ".jpg" if (file, column) == ("predictions.csv", 0) else ""
        assert [from_cell(row[column]) for row in found] == [f"{name}{suffix}" for name in ODD]
    assert (tmp_path / "labels.txt").read_text().splitlines() == list(ODD)  # no table: the names as they are


def test_predictions_hold_no_formula_and_every_name(tmp_path):
    with console.rows_output(tmp_path / "rows.csv", overwrite=False) as file, writers.csv_rows(file) as write:
        for name in ODD:
            write(Prediction(f"{name}.jpg", "ok", None, name, 0.25, ((name, 0.25),), True, 1.5, (name,)))
    _, *found = cells(tmp_path / "rows.csv")
    assert all(is_safe(cell) for row in found for cell in row)
    assert [from_cell(row[0]) for row in found] == [f"{name}.jpg" for name in ODD]
    assert [(row[4], json.loads(from_cell(row[5]))) for row in found] == [("0.25", [[name, 0.25]]) for name in ODD]


def test_a_list_of_fixes_goes_round_with_formulas_for_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("-a", "@b"):
        for name in ODD:
            path = tmp_path / label / f"{name.replace('/', ' ')}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(name.encode())
    os.chdir(tmp_path / "-a")
    names = sorted(os.listdir())
    issues = [Issue("label", (name,), ("-a",), 0.1, "-a is wrong", "=relabel", "@b", is_certain=True) for name in names]
    write_fixes(tmp_path / "fixes.csv", issues)
    _, *found = cells(tmp_path / "fixes.csv")
    assert all(is_safe(cell) for row in found for cell in row)
    fixes = read_fixes(tmp_path / "fixes.csv")
    assert [fix[:-1] for fix in fixes.rows] == [fix[:-1] for fix in propose(issues)]
    assert [fix.path for fix in fixes.rows] == names
    fixed = apply_fixes(load_dataset(tmp_path), fixes)
    assert fixed.classes == ("@b",) and (fixed.labels == 0).all()


def test_the_csv_of_check_holds_no_formula(tmp_path, tiny_onnx, monkeypatch, capsys):
    photos = write_photos(tmp_path / "=photos", n=6)
    (photos / "red").rename(photos / "=red")
    (photos / "=red" / "-broken.png").write_text("no photo")
    monkeypatch.chdir(tmp_path)
    assert main.main(["check", "=photos", "--backbone", str(tiny_onnx), "--csv", "issues.csv", "--quiet"]) == 0
    header, *found = cells(tmp_path / "issues.csv")
    assert all(is_safe(cell) for row in found for cell in row)
    paths = [from_cell(row[header.index("path")]) for row in found]
    assert os.path.join("=photos", "=red", "-broken.png") in paths
    assert [os.path.join("=photos", "=red", "-broken.png")] in [
        json.loads(from_cell(row[header.index("paths")])) for row in found
    ]


# ---- tables that lead elsewhere


@pytest.fixture
def table(tmp_path):
    """A folder with photos, one beside it, and a way to write a table of some."""
    photos = write_photos(tmp_path / "data", n=2)
    Image.fromarray(picture(COLOURS["red"], 5)).save(tmp_path / "secret.png")

    def write(*extra):
        inside = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.png"))]
        inside[0] = str(photos / inside[0])  # a whole path, and a way round: both lead inside
        inside[1] = os.path.join("red", os.pardir, inside[1])
        lines = [f"{path},{path.split(os.sep)[-2] if os.sep in path else 'red'}" for path in inside]
        (photos / "t.csv").write_text("\n".join(["path,label", *lines, *extra]) + "\n")
        return photos / "t.csv"

    return write


def test_a_table_that_names_files_outside_its_folder_is_followed_and_told(table, tmp_path, tiny_onnx, capsys):
    assert load_dataset(table()).notes == ()
    secret = os.path.join(os.pardir, "secret.png")
    path = table(f"{secret},red", f"{tmp_path / 'secret.png'},red")
    (note,) = load_dataset(path).notes
    assert "names 2 files that lie outside its folder" in note and note.endswith(os.path.join(path.parent, secret))
    assert "1 file that lies outside" in load_dataset(table(f"{secret},red")).notes[0]
    arguments = ["--backbone", tiny_onnx, "--quiet"]
    for command in (["train", path, "-o", tmp_path / "run", "--budget", "0"], ["check", path]):
        assert main.main([str(a) for a in (*command, *arguments)]) == 0
        assert "outside its folder; the first: " in capsys.readouterr().err
    assert main.main(["evaluate", str(tmp_path / "run"), str(path), "-o", str(tmp_path / "e"), "--quiet"]) in (0, 1)
    assert "outside its folder" in capsys.readouterr().err


@pytest.mark.parametrize("has_bytes", [True, False])
def test_rows_of_parquet_that_name_files_outside_are_told(tmp_path, has_bytes):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path / "data"
    folder.mkdir()
    content = io.BytesIO()
    Image.fromarray(picture(COLOURS["red"], 5)).save(content, "PNG")
    (tmp_path / "secret.png").write_bytes(content.getvalue())
    (folder / "own.png").write_bytes(content.getvalue())
    pairs = [("own.png", None), ("../secret.png", content.getvalue() if has_bytes else None), ("x.png", content.getvalue())]
    images = [{"bytes": inside, "path": path} for path, inside in pairs] * 2
    labels = ["a", "a", "a", "b", "b", "b"]
    parquet.write_table(pyarrow.table({"image": images, "label": labels}), folder / "t.parquet", row_group_size=3)
    for path in (folder, folder / "t.parquet"):
        notes = load_dataset(path).notes
        assert (notes == ()) if has_bytes else ("names 2 files that lie outside" in notes[0]), path
        assert np.array_equal(load_dataset(path).labels, [0, 0, 0, 1, 1, 1])
