"""Fixes: a table of what to do about issues, that a person edits, and a data set as it is with them; no file is changed.

It decides what is proposed for each kind of issue, and what counts as the same photo; write_fixes never replaces a file
unless told to, for people may have worked on it for hours.
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
CERTAIN, DOUBTFUL = "as good as certain", "in doubt"
COPIES, NEARLY = ("leak", "duplicate"), ("near-duplicate",)
LOST = ("blank", "unreadable")


class Fix(NamedTuple):
    """A row of the table: what to do with a photo; `review` does nothing until a person has made another action of it.

    label: the new one, for `relabel`. sure: how sure that is. where: for messages.
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
    """What is to be done with photos. source: the table, for messages."""

    rows: tuple[Fix, ...]
    source: str


def propose(issues: Sequence[Issue]) -> tuple[Fix, ...]:
    """What could be done about issues, one row for each photo: the strongest of what its issues propose, worst first.

    A label error is relabelled where that is as good as certain, else it is for review. Of copies all but one are excluded,
    all of them where their labels differ, but for one whose label is clearly right; of near duplicates those with different
    labels only. Blank and unreadable files are excluded. All else is kept, so that people see it.
    """
    rows: dict[str, Fix] = {}
    for issue in issues:
        for path, action, label in _proposed(issue):
            sure = {RELABEL: CERTAIN, REVIEW: DOUBTFUL}.get(action, "")
            row = Fix(path, action, label, sure, issue.kind, f"{issue.score:.3f}", issue.sentence)
            known = rows.get(path)
            if known is None or _strength(row) < _strength(known):
                rows[path] = row
    return tuple(rows.values())


def _strength(row: Fix) -> int:
    """The lower the stronger; one of two near duplicates is left out only where nothing says which label is wrong."""
    return 2 * ACTIONS.index(KEEP if row.kind in NEARLY and row.action == EXCLUDE else row.action) - (row.action == EXCLUDE)


def _proposed(issue: Issue) -> Iterator[tuple[str, str, str]]:
    is_copy = issue.kind in COPIES or (issue.kind in NEARLY and len(set(issue.labels)) > 1)
    kept = None
    if is_copy and len(set(issue.labels)) == 1:
        kept = 0
    elif is_copy and issue.suggested_label in issue.labels:
        kept = issue.labels.index(issue.suggested_label)
    for i, path in enumerate(issue.paths):
        if issue.kind == "label":
            is_clear = issue.is_certain and issue.suggested_label
            yield path, RELABEL if is_clear else REVIEW, issue.suggested_label or ""
        elif issue.kind in LOST or (is_copy and i != kept):
            yield path, EXCLUDE, ""
        else:
            yield path, KEEP, ""


def write_fixes(path: str | os.PathLike[str], issues: Sequence[Issue], *, overwrite: bool = False) -> Path:
    """Write what could be done about issues as a CSV to edit: columns COLUMNS, a row for each photo.

    Raises OutputError where there is a file already, unless told to overwrite it, and where it cannot be written.
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
            found = ", ".join(columns) or "none"
            raise DataError(
                f"{path} has no column {' and no '.join(missing)}; expected {', '.join(COLUMNS)}; found: {found}"
            )
        rows = [_read_row(row, columns, f"{path}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; expected a table with commas between columns") from error
    known: dict[str, Fix] = {}
    for row in rows:
        if row is None:
            continue
        before = known.setdefault(_key(row.path), row)
        if (before.action, before.label) != (row.action, row.label):
            raise DataError(
                f"{row.where}: {row.path!r} has another action already, {before.action} ({before.where}); keep one"
            )
    return Fixes(tuple(known.values()), os.fspath(path))


def _read_row(row: dict[str | None, str | None], columns: dict[str, str], where: str) -> Fix | None:
    """A row as a Fix; None for an empty one. A path is taken as it stands: names may begin and end with spaces."""
    told = {name: from_cell(row.get(columns[name]) or "") if name in columns else "" for name in COLUMNS}
    action, label = told["action"].strip().casefold(), told["label"].strip()
    if not told["path"]:
        if action or label:
            raise DataError(f"{where} has the action {action!r} but no path")
        return None
    if action not in ACTIONS:
        raise DataError(
            f"{where}: the action {told['action']!r} of {told['path']!r} is unknown; expected {', '.join(ACTIONS)}"
        )
    if action == RELABEL and not label:
        raise DataError(f"{where}: {told['path']!r} is to be relabelled, but the column label is empty")
    return Fix(told["path"], action, label, told["sure"], told["kind"], told["score"], told["sentence"], where)


def apply_fixes(dataset: Dataset, fixes: Fixes) -> Dataset:
    """Give the data set as it is with the fixes: some images with other labels, others among those that are skipped.

    Relabelling to a class that is not there makes it; a class that loses its last image is gone. Files that were skipped
    anyway may be named. Raises DataError, naming the line, for a path that is not in the data, and where no image is left.
    """
    places: dict[str, list[int]] = {}
    for i, image in enumerate(dataset.images):
        places.setdefault(_key(display_name(image)), []).append(i)
    passed_over = {_key(path) for path, _ in dataset.skipped}
    labels = [label_text(label, dataset.classes) for label in dataset.labels]
    is_many, is_kept = are_many(dataset.labels), np.ones(len(labels), bool)
    skipped = list(dataset.skipped)
    for fix in fixes.rows:
        found = places.get(_key(fix.path), [])
        if not found and _key(fix.path) not in passed_over:
            raise DataError(_not_there(fix, dataset))
        if fix.action == RELABEL:
            _check_label(fix, dataset)
        for i in found:
            if fix.action == EXCLUDE:
                is_kept[i] = False
                skipped.append(
                    Skipped(display_name(dataset.images[i]), f"{EXCLUDED}: {fix.sentence or fix.kind or EXCLUDE}")
                )
            elif fix.action == RELABEL:
                labels[i] = fix.label
    kept = np.flatnonzero(is_kept)
    if len(kept) == 0 < len(labels):
        raise DataError(f"{fixes.source} excludes all {len(labels)} images; change some of its actions to {KEEP}")
    of_kept, classes = encode([labels[i] for i in kept.tolist()], are_several=is_many)
    return replace(
        dataset,
        images=[dataset.images[i] for i in kept.tolist()],
        labels=of_kept,
        classes=classes,
        splits=dataset.splits[kept],
        skipped=tuple(skipped),
    )


def _check_label(fix: Fix, dataset: Dataset) -> None:
    is_several = SEPARATOR in fix.label and fix.label not in dataset.classes
    if is_several and not are_many(dataset.labels):
        raise DataError(f"{fix.where}: {fix.label!r} names several labels, and the images of this data have one each")
    if not fix.label.strip(f"{SEPARATOR} "):
        raise DataError(f"{fix.where}: {fix.label!r} names no label")


def _key(path: str) -> str:
    """What two ways of writing a path have in common; links are not followed, for they are photos of their own."""
    return os.path.normcase(os.path.abspath(path))


def _not_there(fix: Fix, dataset: Dataset) -> str:
    from difflib import get_close_matches

    near = get_close_matches(fix.path, [display_name(image) for image in dataset.images[:5000]], n=1, cutoff=0.8)
    hint = f"; did you mean {near[0]!r}?" if near else "; a path is absolute, or relative to the current folder"
    return f"{fix.where}: there is no {fix.path!r} in the data{hint}"
