"""Issues as a table that a spreadsheet may open."""

import csv
import json

from headstart.runs.issue_table import COLUMNS, write_issue_table


def test_a_row_for_each_issue_and_no_formula(tmp_path):
    issue = {
        "kind": "duplicate",
        "path": "=1+1.jpg",
        "paths": ["=1+1.jpg", "وردة.jpg"],
        "label": "cat",
        "suggested_label": None,
        "score": 0.25,
        "sentence": "one photo, twice",
        "suggestion": "keep one",
    }
    write_issue_table(tmp_path / "issues.csv", [issue, {**issue, "path": None, "paths": []}])
    with (tmp_path / "issues.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS and first["path"] == "'=1+1.jpg" and first["score"] == "0.25"
    assert json.loads(first["paths"]) == ["=1+1.jpg", "وردة.jpg"] and second["path"] == "" and second["paths"] == "[]"
