"""Fixes: what is proposed, what a spreadsheet makes of it, and what a data set becomes."""

import csv
import os
from dataclasses import replace

import numpy as np
import pytest

from headstart.checks.fixes import COLUMNS, apply_fixes, propose, read_fixes, write_fixes
from headstart.checks.issue import Issue
from headstart.data.datasets import Dataset, Skipped, load_dataset
from headstart.errors import DataError, OutputError

ODD_NAMES = [
    "<script>.jpg",
    'a "b", c;d.jpg',
    "🌷.jpg",
    "\u202bورد\u202c.jpg",
    "caf\udce9.jpg",
    "two\r\nlines.jpg",
    " space .jpg",
]


def issue(kind, paths, labels, to=None, score=0.1):
    return Issue(kind, tuple(paths), tuple(labels), score, f"a {kind}", "look", to)


def certain(path, to):
    return replace(issue("label", [path], ["daisy"], to), is_certain=True)


def dataset(*names, labels=None, classes=("daisy", "roses"), skipped=()):
    labels = np.arange(len(names)) % 2 if labels is None else np.array(labels)
    return Dataset(list(names), labels, classes, np.full(len(names), -1, np.int8), tuple(skipped))


def table(tmp_path, *lines, header="path,action,label", end="\n", encoding="utf-8"):
    path = tmp_path / "fixes.csv"
    path.write_bytes(end.join([header, *lines, ""]).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("found", "actions"),
    [
        (certain("a", "roses"), [("a", "relabel", "roses")]),
        (issue("label", ["a"], ["daisy"], "roses"), [("a", "review", "roses")]),
        (issue("label", ["a"], ["daisy"]), [("a", "review", "")]),
        (issue("duplicate", "abc", ["daisy"] * 3), [("a", "keep", ""), ("b", "exclude", ""), ("c", "exclude", "")]),
        (issue("duplicate", "ab", ["daisy", "roses"]), [("a", "exclude", ""), ("b", "exclude", "")]),
        (issue("duplicate", "ab", ["daisy", "roses"], "roses"), [("a", "exclude", ""), ("b", "keep", "")]),
        (issue("leak", "ab", ["daisy", "daisy"]), [("a", "keep", ""), ("b", "exclude", "")]),
        (issue("near-duplicate", "ab", ["daisy", "roses"]), [("a", "exclude", ""), ("b", "exclude", "")]),
        (issue("near-duplicate", "ab", ["daisy", "daisy"]), [("a", "keep", ""), ("b", "keep", "")]),
        (issue("blank", ["a"], ["daisy"]), [("a", "exclude", "")]),
        (issue("unreadable", ["a"], [""]), [("a", "exclude", "")]),
        (issue("dark", ["a"], ["daisy"]), [("a", "keep", "")]),
        (issue("small-class", [], ["daisy"]), []),
    ],
)
def test_what_is_proposed(found, actions):
    assert [row[:3] for row in propose([found])] == actions


def test_the_table_says_how_sure_a_relabel_is():
    rows = propose([certain("a", "roses"), issue("label", ["b"], ["daisy"], "roses"), issue("dark", ["c"], ["daisy"])])
    assert [(row.action, row.sure) for row in rows] == [
        ("relabel", "as good as certain"),
        ("review", "in doubt"),
        ("keep", ""),
    ]


def test_of_near_duplicates_with_two_labels_the_doubtful_one_is_for_review():
    copies = issue("near-duplicate", "ab", ["daisy", "roses"])
    rows = {row.path: row.action for row in propose([copies, issue("label", ["b"], ["roses"], "daisy")])}
    assert rows == {"a": "exclude", "b": "review"}


def test_what_is_for_review_stays_as_it_is(tmp_path):
    fixes = read_fixes(write_fixes(tmp_path / "fixes.csv", [issue("label", ["a"], ["daisy"], "roses")]))
    assert [row[:3] for row in fixes.rows] == [("a", "review", "roses")]
    same = apply_fixes(dataset("a", "b"), fixes)
    assert same.images == ["a", "b"] and same.classes == ("daisy", "roses") and same.labels.tolist() == [0, 1]


def test_a_photo_with_several_issues_has_one_row_with_the_strongest_action():
    found = [
        issue("label", ["b"], ["daisy"], "roses"),
        issue("duplicate", "ab", ["daisy"] * 2),
        issue("dark", ["b"], ["daisy"]),
    ]
    assert [(row.path, row.action, row.kind) for row in propose(found)] == [
        ("b", "exclude", "duplicate"),
        ("a", "keep", "duplicate"),
    ]


def test_the_table_goes_round_with_any_name(tmp_path):
    found = [certain(name, 'a, "b"; 🌷 <script>') for name in ODD_NAMES]
    path = write_fixes(tmp_path / "fixes.csv", found)
    assert path.read_bytes().startswith(",".join(COLUMNS).encode() + b"\r\n")
    fixes = read_fixes(path)
    assert [row.path for row in fixes.rows] == ODD_NAMES
    assert {(row.action, row.label, row.kind) for row in fixes.rows} == {("relabel", 'a, "b"; 🌷 <script>', "label")}
    fixed = apply_fixes(dataset(*ODD_NAMES), fixes)
    assert fixed.classes == ('a, "b"; 🌷 <script>',) and len(fixed.images) == len(ODD_NAMES)


def test_no_issues_are_a_table_without_rows(tmp_path):
    assert read_fixes(write_fixes(tmp_path / "fixes.csv", [])).rows == ()
    same = apply_fixes(dataset("a", "b"), read_fixes(tmp_path / "fixes.csv"))
    assert same.images == ["a", "b"] and same.classes == ("daisy", "roses") and same.labels.tolist() == [0, 1]


def test_what_somebody_has_edited_is_not_overwritten(tmp_path):
    path = tmp_path / "fixes.csv"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        write_fixes(path, [])
    assert path.read_text() == "mine"
    write_fixes(path, [], overwrite=True)
    assert path.read_text() != "mine"
    with pytest.raises(OutputError, match="cannot be written"):
        write_fixes(path / "below", [])


@pytest.mark.parametrize(
    ("header", "end", "encoding"),
    [
        ("path,action,label", "\r\n", "utf-8-sig"),
        ("path;action;label", "\r\n", "utf-8"),
        ("path\taction\tlabel", "\n", "utf-8"),
        ("Path,ACTION , Label", "\n", "utf-8"),
    ],
)
def test_what_spreadsheets_make_of_it_is_read(tmp_path, header, end, encoding):
    mark = header[4]
    rows = ["a", "Relabel ", "tulips "], ["b", "EXCLUDE", ""], ["", "", ""], ["c", "keep", "", "a note of mine"]
    path = table(tmp_path, *(mark.join(row) for row in rows), header=header, end=end, encoding=encoding)
    assert [row[:3] for row in read_fixes(path).rows] == [
        ("a", "relabel", "tulips"),
        ("b", "exclude", ""),
        ("c", "keep", ""),
    ]


def test_columns_may_be_fewer_more_and_in_another_order(tmp_path):
    path = table(tmp_path, "note,keep,a", header="mine,action,path")
    assert [row[:3] for row in read_fixes(path).rows] == [("a", "keep", "")]


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a"], "path", "no column action; expected path, action"),
        ([], "", "no column path and no action"),
        (
            ["a,delete,"],
            "path,action,label",
            r"line 2: the action 'delete' of 'a' is unknown; expected exclude, relabel, review, keep",
        ),
        (["a,keep,", "b,,"], "path,action,label", "line 3: the action ''"),
        (["a,relabel, "], "path,action,label", "line 2: 'a' is to be relabelled, but the column label is empty"),
        (["b,relabel"], "path,action", "line 2: 'b' is to be relabelled"),
        ([",exclude,"], "path,action,label", "line 2 has the action 'exclude' but no path"),
        (["a,keep,", "a,exclude,"], "path,action,label", r"line 3: 'a' has another action already, keep \(.*line 2\)"),
        (["./a,keep,", "a,exclude,"], "path,action,label", "line 3: 'a' has another action already"),
    ],
)
def test_a_table_that_cannot_be_meant_so_is_refused_by_the_line(tmp_path, lines, header, message):
    with pytest.raises(DataError, match=message):
        read_fixes(table(tmp_path, *lines, header=header))


def test_a_table_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_fixes(tmp_path / "none.csv")
    with pytest.raises(DataError):
        read_fixes(table(tmp_path, "a,keep,", encoding="utf-16"))


def test_images_are_relabelled_and_excluded_and_the_data_itself_stays(tmp_path):
    data = dataset("a", "b", "c", "d", skipped=[Skipped("e", "broken")])
    path = table(
        tmp_path,
        "a,relabel,roses,",
        "b,exclude,,blank",
        "c,relabel,tulips,",
        "d,keep,,",
        "e,exclude,,",
        header="path,action,label,kind",
    )
    fixed = apply_fixes(data, read_fixes(path))
    assert fixed.images == ["a", "c", "d"] and fixed.classes == ("roses", "tulips")
    assert [fixed.classes[i] for i in fixed.labels] == ["roses", "tulips", "roses"] and fixed.labels.dtype == np.int64
    assert fixed.skipped == (Skipped("e", "broken"), Skipped("b", "excluded by the fixes: blank"))
    assert len(fixed.splits) == 3
    assert (
        data.images == ["a", "b", "c", "d"] and data.labels.tolist() == [0, 1, 0, 1] and data.classes == ("daisy", "roses")
    )


def test_a_path_is_the_same_relative_or_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for told, there in (
        ("photos/a.jpg", tmp_path / "photos" / "a.jpg"),
        (tmp_path / "photos" / "a.jpg", "photos/../photos/a.jpg"),
    ):
        fixed = apply_fixes(dataset(os.fspath(there), "b", "c"), read_fixes(table(tmp_path, f"{told},exclude,")))
        assert fixed.images == ["b", "c"]


def test_a_photo_that_is_not_there_is_named_with_its_line(tmp_path):
    with pytest.raises(
        DataError, match=r"line 2: there is no 'photos/daisy/1.jgp' in the data; did you mean 'photos/daisy/1.jpg'"
    ):
        apply_fixes(dataset("photos/daisy/1.jpg", "b"), read_fixes(table(tmp_path, "photos/daisy/1.jgp,keep,")))


def test_several_labels_an_image(tmp_path):
    data = dataset("a", "b", "c", labels=np.array([[1, 0], [1, 1], [0, 1]], np.uint8), classes=("cat", "sofa"))
    fixed = apply_fixes(data, read_fixes(table(tmp_path, "a,relabel,dog|sofa", "c,exclude,")))
    assert fixed.classes == ("cat", "dog", "sofa") and fixed.labels.tolist() == [[0, 1, 1], [1, 0, 1]]
    with pytest.raises(DataError, match=r"line 2: '\|' names no label"):
        apply_fixes(data, read_fixes(table(tmp_path, "a,relabel,|")))


def test_several_labels_where_images_have_one_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 2: 'daisy|roses' names several labels"):
        apply_fixes(dataset("a", "b"), read_fixes(table(tmp_path, "a,relabel,daisy|roses")))


def test_some_image_has_to_be_left(tmp_path):
    with pytest.raises(DataError, match="excludes all 2 images"):
        apply_fixes(dataset("a", "b"), read_fixes(table(tmp_path, "a,exclude,", "b,exclude,")))


def test_from_a_folder_to_a_folder_as_it_should_be(photos, tmp_path):
    """As people do it: write, edit, read, apply; no photo is moved."""
    data = load_dataset(photos)
    first, second = data.images[0], data.images[1]
    path = write_fixes(tmp_path / "fixes.csv", [certain(first, "red"), issue("blank", [second], ["blue"])])
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[1][2] = "violet"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    fixed = apply_fixes(data, read_fixes(path))
    assert fixed.classes == ("blue", "green", "red", "violet") and fixed.classes[fixed.labels[0]] == "violet"
    assert len(fixed.images) == len(data.images) - 1 and fixed.skipped[0].path == second
    assert os.path.exists(first) and os.path.exists(second)
