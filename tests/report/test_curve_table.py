"""The table of curves: its rows name keys that run.json has, and the report's page gets them."""

import re
from pathlib import Path

import pytest

import headstart.report.curve_table as curve_table
from headstart.record import EpochRecord, PointRecord, RunRecord, StepRecord
from headstart.report.curve_table import CURVES, find_curve, page_curves

POINTS = {"fitting": StepRecord, "fine_tuning": EpochRecord, "learning_curve": PointRecord}
RECORD = {
    "fitting": {"steps": [{"step": 0, "train_accuracy": 0.5}, {"step": 3, "train_accuracy": None}]},
    "fine_tuning": None,
}


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: f"{curve.entry}-{curve.key}")
def test_a_row_names_keys_of_the_record(curve):
    assert curve.entry in RunRecord.__annotations__
    point = {*POINTS[curve.entry].__annotations__}
    assert {curve.counter, curve.key} <= point
    assert curve == find_curve(curve.entry, curve.split, curve.measure)
    assert page_curves()[curve.entry][curve.measure][curve.split] == curve.key


def test_a_curve_is_its_points_that_have_a_number():
    assert find_curve("fitting", "train", "accuracy").numbers(RECORD) == [(0, 0.5)]
    assert find_curve("fitting", "validation", "accuracy").numbers(RECORD) == []
    assert find_curve("fine_tuning", "validation", "accuracy").numbers(RECORD) == []
    assert find_curve("learning_curve", "train", "accuracy") is None


def test_the_report_has_no_key_of_its_own():
    script = (Path(curve_table.__file__).parent / "web" / "report.js").read_text()
    assert not re.search(r"(train|validation)_(accuracy|loss|cross_entropy)", script)
