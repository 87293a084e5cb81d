"""What people see: progress, tables, the result."""

import re

import numpy as np
import pytest

from headstart import terminal
from headstart.evaluate import evaluate


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def run(progress, clock, *, n=100, seconds_each=0.2):
    with progress:
        for i in range(1, n + 1):
            progress("codes", i, n)
            clock[0] += seconds_each


def test_a_log_gets_a_line_every_few_seconds_with_rate_and_time_left(clock, capsys):
    run(terminal.Progress(), clock)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 6
    assert re.fullmatch(r"codes: \d+ of 100  5 images/s  \d+ s left", lines[0])
    assert lines[-1].startswith("codes: 100 of 100") and "left" not in lines[-1]


def test_what_is_quick_needs_no_line_and_quiet_gets_none(clock, capsys):
    run(terminal.Progress(), clock, n=5, seconds_each=0.01)
    run(terminal.Progress(quiet=True), clock)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(clock, capsys, monkeypatch):
    monkeypatch.setattr(terminal.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    run(terminal.Progress(), clock)
    err = capsys.readouterr().err
    assert "codes" in err and "images/s" in err and "of 100" in err


def test_the_result_has_interval_cross_entropy_scores_and_confusion():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    text = terminal.evaluation_text(evaluate(probabilities, np.array([0, 0, 1, 1]), ["cat", "dog"]))
    assert "accuracy 75.0 % on 4 test photos" in text and "95 % interval: 30.1 % to 95.4 %" in text
    assert "cross entropy 0.3" in text or "cross entropy 0.4" in text
    assert re.search(r"cat +66\.7 % +100\.0 %", text)
    assert re.search(r"dog +1 +1", text) and re.search(r"cat +2 +\.", text)
    assert "dog taken for cat (1)" in text


def test_many_classes_show_the_worst_and_say_so():
    probabilities, labels = np.eye(30)[np.r_[1, 1:30]], np.arange(30)
    text = terminal.evaluation_text(evaluate(probabilities, labels, [f"class {i}" for i in range(30)]))
    assert "the 10 worst of 30 classes" in text and "class 0" in text and "prediction" not in text


def test_columns_line_up_whatever_the_names_are():
    lines = terminal.table(("class", "n"), [("日本", "1"), ("\x1b[31mred", "22"), ("é", "333")]).splitlines()
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1 and "\x1b" not in "".join(lines)


def test_copies_are_told_where_they_narrow_no_interval():
    probabilities, labels = np.tile([[0.9, 0.1]], (12, 1)), np.zeros(12, int)
    told = terminal.evaluation_text(evaluate(probabilities, labels, ["cat", "dog"], groups=[b"a"] * 6 + [b"b"] * 6))
    assert "on 12 test photos" in told and "2 different photos, copies count as one" in told and "34.2 % to 100.0 %" in told
    assert "different" not in terminal.evaluation_text(evaluate(probabilities, labels, ["cat", "dog"]))
