"""Reads, checks and writes run.json and issues.json, by the types of record.py; the only module that does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from headstart.record import IssueRecord, IssuesRecord, RunRecord
from headstart.safety.json_checks import check_of, each, maybe, number, read_json, whole

FORMAT = 1  # of run.json; a file of a later format is refused

RUN, ISSUES = check_of(RunRecord), check_of(IssuesRecord)


def read_run_record(content: bytes | str) -> RunRecord:
    """Parse and check run.json; raises ValueError where it is not as headstart writes it."""
    record = read_json(content)
    if isinstance(record, dict) and isinstance(record.get("format"), int) and record["format"] > FORMAT:
        raise ValueError(f"it has format {record['format']}, and this release reads format {FORMAT}: upgrade headstart")
    check_run(record)
    return cast(RunRecord, record)


def read_issue_records(content: bytes | str) -> Sequence[IssueRecord]:
    """Parse and check issues.json; raises ValueError where it is not as headstart writes it."""
    record = read_json(content)
    ISSUES(record, "")
    return cast(IssuesRecord, record)["issues"]


def run_record_json(record: RunRecord) -> str:
    """Give the text of run.json."""
    return json.dumps({"format": FORMAT, **record}, indent=2) + "\n"


def issue_records_json(issues: Sequence[IssueRecord]) -> str:
    """Give the text of issues.json."""
    return json.dumps({"issues": issues}, indent=1) + "\n"


def check_run(record: Any) -> None:
    """Check the record of run.json, each entry and one against another; raises ValueError."""
    RUN(record, "")
    names, evaluation = record["classes"], record["evaluation"]
    k = len(names)
    maybe(each(number(-1e-3, 1.001), k))(record.get("thresholds"), "thresholds")
    if evaluation["n_correct"] > evaluation["n_images"]:
        raise ValueError(f"it says that {evaluation['n_correct']:,} of {evaluation['n_images']:,} images were right")
    if [score["label"] for score in evaluation["classes"]] != names:
        raise ValueError("its evaluation is of other classes than it has")
    if record.get("thresholds") is None:
        each(each(whole(), k), k)(evaluation.get("confusion"), "evaluation.confusion")
    elif evaluation.get("confusion") is not None:
        raise ValueError("it has a table of confusions, though an image may have several labels")
    if not set(record.get("images_of_class") or {}) <= set(names):
        raise ValueError("it counts images of classes that it does not have")
