"""The issues of photos as a CSV table, for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from headstart.files import write_output
from headstart.record import IssueRecord
from headstart.safety.csv_cells import to_cells

COLUMNS = ("kind", "path", "label", "suggested_label", "score", "sentence", "suggestion", "paths")


def write_issue_table(path: Path, issues: Iterable[IssueRecord]) -> None:
    """Write a row for each issue, with all its paths as JSON in the last column; raises OutputError where it cannot be."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for issue in issues:
        row = {**issue, "paths": json.dumps(issue["paths"], ensure_ascii=False)}
        writer.writerow(to_cells(row[name] for name in COLUMNS))
    write_output(path, text.getvalue())
