"""run.json and issues.json as a real training writes them, against the types that everybody reads them by."""

from typing import Any, get_type_hints

import pytest

from headstart.record import IssuesRecord, RunRecord
from headstart.runs.record_file import read_issue_records, read_run_record, run_record_json
from support.records import about_of, declared, everything_else, issues_of, like, real_run, some_findings, undeclared


def test_a_training_writes_what_is_declared_and_nothing_else():
    run = real_run()
    assert not list(undeclared(run.record, RunRecord))
    assert not list(undeclared({"issues": list(run.issues)}, IssuesRecord))
    lacking = get_type_hints(RunRecord).keys() - run.record.keys()
    assert lacking == {"run", "comparison"}  # an evaluation's


def test_what_the_tests_of_reports_read_is_a_run_as_well():
    findings = some_findings()
    record = about_of(findings, run="/runs/1", comparison={"sentence": "Undecided."}, **everything_else(findings))
    assert read_run_record(run_record_json(record)) == record
    assert len(issues_of(findings)) == 36


def test_an_entry_of_another_name_is_noticed():
    record: dict[str, Any] = {**about_of(some_findings()), "temprature": 1.0}
    with pytest.raises(AssertionError, match=r"\.temprature"):
        declared(record)
    deeper = {**record["evaluation"], "classes": [{"label": "a", "recal": 0.5}]}
    assert list(undeclared({"evaluation": deeper}, RunRecord)) == [".evaluation.classes.recal"]
    with pytest.raises(AssertionError, match="no run has .'temprature'"):
        like(real_run().record["calibration"], temprature=1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 99}, "format 99, and this release reads format 1: upgrade headstart"),
        ({"classes": []}, "classes is"),
        ({"classes": ["a", "b"]}, "its evaluation is of other classes than it has"),
        ({"images": {}}, "images does not say its used"),
        ({"thresholds": [0.5]}, "thresholds is"),
        ({"images_of_class": {"nobody": 3}}, "counts images of classes that it does not have"),
        ({"evaluation": None}, "evaluation is null"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_its_place(change, reason):
    with pytest.raises(ValueError, match=reason):
        read_run_record(run_record_json({**real_run().record, **change}))


def test_issues_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"issues\[0\] does not say its kind"):
        read_issue_records('{"issues": [{"path": "x"}]}')
