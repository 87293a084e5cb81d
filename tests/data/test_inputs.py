"""What predict is given: files, folders, patterns and stdin, opened up as they come."""

import io
import os
import subprocess
import sys

import pytest
from PIL import Image

from headstart.data.inputs import count_inputs, list_inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b/2.jpg", "b/10.jpg", "b/.hidden.jpg", "a.jpg", "b/deeper/1.jpg", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_come_as_they_are_and_folders_in_natural_order(folder):
    expected = ["c.png", "b/2.jpg", "b/10.jpg", "b/deeper/1.jpg", "a.jpg"]
    assert list(list_inputs(["c.png", "b", "a.jpg"])) == [os.path.normpath(p) for p in expected]


def test_patterns_are_opened_up_and_one_without_a_match_is_told_as_a_file_that_is_not_there(folder):
    assert list(list_inputs(["*.jpg"])) == ["a.jpg"]
    assert sorted(list_inputs(["**/*.jpg"])) == sorted(
        ["a.jpg", *(os.path.join("b", p) for p in ("10.jpg", "2.jpg", "deeper/1.jpg"))]
    )
    assert list(list_inputs(["*.gif", "no.jpg"])) == ["*.gif", "no.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "[a].jpg").touch()
    assert list(list_inputs(["[a].jpg"])) == ["[a].jpg"]


def test_folders_without_files_are_named(folder):
    (folder / "none" / "at all").mkdir(parents=True)
    empty = []
    assert list(list_inputs(["none", "b"], empty)) and empty == ["none"]


def test_nothing_is_opened_up_before_it_is_asked_for(folder):
    stream = list_inputs(["a.jpg", "b"])
    assert next(stream) == "a.jpg"
    (folder / "b" / "1.jpg").touch()
    assert next(stream) == os.path.join("b", "1.jpg")


@pytest.mark.parametrize(("paths", "n"), [([], 0), (["b"], 3), (["a.jpg", "*.png"], 2), (["a.jpg", "-"], 0)])
def test_the_count_is_of_what_comes_and_0_where_stdin_alone_will_tell(folder, paths, n):
    assert count_inputs(paths) == n


READ_STDIN = """
from headstart.data.inputs import list_inputs
print(*(item if isinstance(item, str) else len(item) for item in list_inputs(["-"])), sep="|")
"""


def read_stdin(content, cwd):
    return (
        subprocess.run([sys.executable, "-c", READ_STDIN], input=content, capture_output=True, cwd=cwd, check=True)
        .stdout.decode()
        .strip()
    )


def test_stdin_holds_paths_or_one_picture(folder):
    lines = b"a.jpg\r\n\nb\n-\nno.jpg"
    assert read_stdin(lines, folder).split("|") == [
        "a.jpg",
        *(os.path.join("b", p) for p in ("2.jpg", "10.jpg", os.path.join("deeper", "1.jpg"))),
        "no.jpg",
    ]
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    assert read_stdin(file.getvalue(), folder) == str(len(file.getvalue()))
    assert read_stdin(b"", folder) == ""
