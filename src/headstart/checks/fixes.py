"""Fixes: writes issues as a CSV table of actions that a person edits, and applies it to a data set; no photo is changed.

It decides which action is proposed for each kind of issue, and what counts as the same path; write_fixes never replaces a
file unless `overwrite` is set, for people may have worked on it for hours.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headstart.checks.issue import Issue
from headstart.data.datasets import EXCLUDED, Dataset, Skipped
from headstart.data.images import display_name
from headstart.data.labels import SEPARATOR, are_many, encode, label_text
from headstart.errors import DataError
from headstart.files import check_output, write_output
from headstart.safety.csv_cells import from_cell, to_cells

COLUMNS = ("path", "action", "label", "sure", "kind", "score", "sentence")
NEEDED = COLUMNS[:2]
RELABEL, EXCLUDE, REVIEW, KEEP = "relabel", "exclude", "review", "keep"
ACTIONS = (EXCLUDE, RELABEL, REVIEW, KEEP)  # the first counts where issues propose several for a photo
CERTAIN, IN_DOUBT = "as good as certain", "in doubt"
EXACT_COPIES, NEAR_COPIES = ("leak", "duplicate"), ("near-duplicate",)  # kinds of issue
USELESS = ("blank", "unreadable")


class Fix(NamedTuple):
    """A row of the table: the action for a photo; `review` does nothing until a person changes it to another action.

    label: the new one, for `relabel`. sure: how sure that is. where: file and line, for messages.
    """

    path: str
    action: str
    label: str
    sure: str
    kind: str
    score: str
    sentence: str
    where: str = ""


@dataclass(frozen=True)
class Fixes:
    """The rows of a table of fixes. source: its path, for messages."""

    rows: tuple[Fix, ...]
    source: str


def propose(issues: Sequence[Issue]) -> tuple[Fix, ...]:
    """Propose an action for each photo that has issues: the strongest that its issues call for, worst photos first.

    A label error is relabelled where that is as good as certain, else it is for review. Of copies all but one are excluded;
    where their labels differ, all but one whose label is clearly right; of near duplicates only those with different
    labels. Blank and unreadable files are excluded. All others are kept, so that people see them.
    """
    rows: dict[str, Fix] = {}
    for issue in issues:
        for path, action, label in _actions(issue):
            sure = {RELABEL: CERTAIN, REVIEW: IN_DOUBT}.get(action, "")
            row = Fix(path, action, label, sure, issue.kind, f"{issue.score:.3f}", issue.sentence)
            other = rows.get(path)
            if other is None or _rank(row) < _rank(other):
                rows[path] = row
    return tuple(rows.values())


def _rank(row: Fix) -> int:
    """Rank an action, 0 the strongest; a near duplicate is excluded only where no issue says which label is wrong."""
    return 2 * ACTIONS.index(KEEP if row.kind in NEAR_COPIES and row.action == EXCLUDE else row.action) - (
        row.action == EXCLUDE
    )


def _actions(issue: Issue) -> Iterator[tuple[str, str, str]]:
    """Yield what an issue calls for: a path, an action, and the label to give."""
    is_copy = issue.kind in EXACT_COPIES or (issue.kind in NEAR_COPIES and len(set(issue.labels)) > 1)
    original = None  # the copy that stays
    if is_copy and len(set(issue.labels)) == 1:
        original = 0
    elif is_copy and issue.suggested_label in issue.labels:
        original = issue.labels.index(issue.suggested_label)
    for i, path in enumerate(issue.paths):
        if issue.kind == "label":
            is_clear = issue.is_certain and issue.suggested_label
            yield path, RELABEL if is_clear else REVIEW, issue.suggested_label or ""
        elif issue.kind in USELESS or (is_copy and i != original):
            yield path, EXCLUDE, ""
        else:
            yield path, KEEP, ""


def write_fixes(path: str | os.PathLike[str], issues: Sequence[Issue], *, overwrite: bool = False) -> Path:
    """Write the proposed fixes of issues as a CSV to edit: columns COLUMNS, a row for each photo.

    Raises OutputError where there is a file already, unless `overwrite` is set, and where it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    content = io.StringIO()
    writer = csv.writer(content)  # its line ends, \r\n, make it quote a name that holds either
    writer.writerow(COLUMNS)
    writer.writerows(to_cells(row[: len(COLUMNS)]) for row in propose(issues))
    write_output(path, content.getvalue())
    return path


def read_fixes(path: str | os.PathLike[str]) -> Fixes:
    """Read a table of fixes as people and their spreadsheets leave it: commas, semicolons or tabs, a byte order mark, any
    line ends, columns in any order and more of them, rows left empty.

    Needed are `path` and `action`, and `label` where an action is relabel. Raises DataError, naming the line, for an unknown
    action, a photo that has two different ones, or a missing label or column.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        columns = {name.strip().casefold(): name for name in reader.fieldnames or [] if name}
        missing = [name for name in NEEDED if name not in columns]
        if missing:
            present = ", ".join(columns) or "none"
            raise DataError(
                f"{path} has no column {' and no '.join(missing)}; expected {', '.join(COLUMNS)}; found: {present}"
            )
        rows = [_read_row(row, columns, f"{path}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; expected a table with commas between columns") from error
    fixes: dict[str, Fix] = {}
    for row in rows:
        if row is None:
            continue
        before = fixes.setdefault(_path_key(row.path), row)
        if (before.action, before.label) != (row.action, row.label):
            raise DataError(
                f"{row.where}: {row.path!r} has another action already, {before.action} ({before.where}); keep one"
            )
    return Fixes(tuple(fixes.values()), os.fspath(path))


def _read_row(row: dict[str | None, str | None], columns: dict[str, str], where: str) -> Fix | None:
    """Read a row as a Fix; None for an empty one. A path is taken as it is: names may begin and end with spaces."""
    cells = {name: from_cell(row.get(columns[name]) or "") if name in columns else "" for name in COLUMNS}
    action, label = cells["action"].strip().casefold(), cells["label"].strip()
    if not cells["path"]:
        if action or label:
            raise DataError(f"{where} has the action {action!r} but no path")
        return None
    if action not in ACTIONS:
        raise DataError(
            f"{where}: the action {cells['action']!r} of {cells['path']!r} is unknown; expected {', '.join(ACTIONS)}"
        )
    if action == RELABEL and not label:
        raise DataError(f"{where}: {cells['path']!r} is to be relabelled, but the column label is empty")
    return Fix(cells["path"], action, label, cells["sure"], cells["kind"], cells["score"], cells["sentence"], where)


def apply_fixes(dataset: Dataset, fixes: Fixes) -> Dataset:
    """Apply fixes to a data set: relabel images, and skip those that are excluded.

    Relabelling to a class that does not exist creates it; a class that loses its last image is removed. Files that were
    skipped anyway may be named. Raises DataError, naming the line, for a path that is not in the data, and where no image
    is left.
    """
    places: dict[str, list[int]] = {}
    for i, image in enumerate(dataset.images):
        places.setdefault(_path_key(display_name(image)), []).append(i)
    skipped_paths = {_path_key(path) for path, _ in dataset.skipped}
    labels = [label_text(label, dataset.classes) for label in dataset.labels]
    is_many, is_kept = are_many(dataset.labels), np.ones(len(labels), bool)
    skipped = list(dataset.skipped)
    for fix in fixes.rows:
        positions = places.get(_path_key(fix.path), [])
        if not positions and _path_key(fix.path) not in skipped_paths:
            raise DataError(_unknown_path(fix, dataset))
        if fix.action == RELABEL:
            _check_label(fix, dataset)
        for i in positions:
            if fix.action == EXCLUDE:
                is_kept[i] = False
                skipped.append(
                    Skipped(display_name(dataset.images[i]), f"{EXCLUDED}: {fix.sentence or fix.kind or EXCLUDE}")
                )
            elif fix.action == RELABEL:
                labels[i] = fix.label
    rows = np.flatnonzero(is_kept)
    if len(rows) == 0 < len(labels):
        raise DataError(f"{fixes.source} excludes all {len(labels)} images; change some of its actions to {KEEP}")
    encoded, classes = encode([labels[i] for i in rows.tolist()], are_several=is_many)
    return replace(
        dataset,
        images=[dataset.images[i] for i in rows.tolist()],
        labels=encoded,
        classes=classes,
        splits=dataset.splits[rows],
        skipped=tuple(skipped),
    )


def _check_label(fix: Fix, dataset: Dataset) -> None:
    is_several = SEPARATOR in fix.label and fix.label not in dataset.classes
    if is_several and not are_many(dataset.labels):
        raise DataError(f"{fix.where}: {fix.label!r} names several labels, and the images of this data have one each")
    if not fix.label.strip(f"{SEPARATOR} "):
        raise DataError(f"{fix.where}: {fix.label!r} names no label")


def _path_key(path: str) -> str:
    """Normalise a path so that all its spellings agree; links are not followed, for they are photos of their own."""
    return os.path.normcase(os.path.abspath(path))


def _unknown_path(fix: Fix, dataset: Dataset) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(fix.path, [display_name(image) for image in dataset.images[:5000]], n=1, cutoff=0.8)
    hint = f"; did you mean {matches[0]!r}?" if matches else "; a path is absolute, or relative to the current folder"
    return f"{fix.where}: there is no {fix.path!r} in the data{hint}"
