"""What people see: progress, tables, the result."""

import re
import threading
import time

import numpy as np
import pytest

from headstart.cli import console, summaries
from headstart.evaluation.metrics import evaluate


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def run(progress, clock, *, n=100, seconds_each=0.2):
    with progress:
        for i in range(1, n + 1):
            progress("codes", i, n)
            clock[0] += seconds_each


def test_a_log_gets_a_line_every_few_seconds_with_rate_and_time_left(clock, capsys):
    run(console.Progress(), clock)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 6
    assert re.fullmatch(r"codes: \d+ of 100  5 images/s  \d+ s, about \d+ s left", lines[0])
    assert lines[-1] == "codes: 100 of 100  5 images/s  20 s"


def test_what_is_quick_needs_no_line_and_quiet_gets_none(clock, capsys):
    run(console.Progress(), clock, n=5, seconds_each=0.01)
    run(console.Progress(quiet=True), clock)
    assert capsys.readouterr() == ("", "")


def test_the_second_time_a_stage_has_a_rate_of_its_own(clock, capsys):
    with console.Progress() as progress:
        for seconds, n in ((1.0, 10), (0.25, 40)):
            for done in range(n + 1):
                progress("codes", done, n)
                clock[0] += seconds
            clock[0] += 500  # another stage's
    assert "codes: 40 of 40  4 images/s  10 s" in capsys.readouterr().err.splitlines()


def test_only_images_are_told_in_images(clock, capsys):
    with console.Progress() as progress:
        for stage, n in (("map", 4), ("head", 4), ("trust", 1)):
            for done in range(n + 1):
                progress(stage, done, n)
                clock[0] += 60
    lines = capsys.readouterr().err.splitlines()
    assert "map: 4 of 4 rounds  4 min" in lines and "head: 4 of 4 fits  4 min" in lines and lines[-1] == "trust: 60 s"
    assert not any("images" in line for line in lines)


def test_the_time_left_grows_where_a_piece_takes_longer_than_those_before(clock):
    stage = console._Stage(0.0, 0.0, 10.0, done=1, total=4)  # the first of four took 10 s
    assert [stage.seconds_left(now) for now in (10.0, 20.0, 40.0, 80.0)] == [30.0, 20.0, 40.0, 80.0]
    burst = console._Stage(0.0, 0.0, 10.0, done=1_000, total=2_000)  # images come in bursts: that says nothing of the rest
    assert 9 < burst.seconds_left(12.0) < 13
    assert console._Stage(0.0, 0.0, 0.0, done=0, total=4).seconds_left(5.0) is None
    assert console._Stage(0.0, 0.0, 0.0, done=9, total=0).seconds_left(5.0) is None


def test_a_log_is_told_of_a_stage_that_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.01)
    monkeypatch.setattr(console, "QUICK_SECONDS", 0.0)
    told = ""
    with console.Progress() as progress:
        progress("choose", 0, 0)
        progress("head", 2, 4)
        for _ in range(500):
            if told.count("head: 2 of 4 fits") > 1:
                break
            time.sleep(0.01)
            told += capsys.readouterr().err
    assert told.count("head: 2 of 4 fits") > 1 and "choose" not in told  # the inner one says more
    assert not any(thread.name == progress._ticker.name for thread in threading.enumerate())


def test_a_stage_goes_on_when_those_within_it_are_over(clock, monkeypatch, capsys):
    with console.Progress() as progress:
        progress("choose", 0, 0)
        progress("rung", 0, 3)
        progress("head", 1, 4)  # this one never says that it is over
        progress("rung", 1, 3)
        progress("head", 2, 4)
        progress("rung", 2, 3)
        assert list(progress._stages) == ["choose", "rung"]
        progress("choose", 1, 1)
        assert not progress._stages


def test_a_terminal_gets_bars_of_what_is_under_way(clock, capsys, monkeypatch):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.Progress() as progress:
        progress("glance", 0, 0)
        progress("glance", 1, 1)
        progress("trust", 0, 0)
        progress("codes", 20, 100)
        clock[0] += 5
        progress("codes", 50, 100)
    err = capsys.readouterr().err
    assert "trust" in err and "50 of 100  10 images/s  5 s, about 5 s left" in err
    assert "glance" not in err.splitlines()[-1]


def test_the_result_has_interval_cross_entropy_scores_and_confusion():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    text = summaries.evaluation_text(evaluate(probabilities, np.array([0, 0, 1, 1]), ["cat", "dog"]))
    assert "accuracy 75.0 % on 4 test photos" in text and "95 % interval: 30.1 % to 95.4 %" in text
    assert "cross entropy 0.338" in text
    assert re.search(r"cat +66\.7 % +100\.0 %", text)
    assert re.search(r"dog +1 +1", text) and re.search(r"cat +2 +\.", text)
    assert "dog taken for cat (1)" in text


def test_no_number_is_a_negative_zero():
    evaluation = evaluate(np.eye(2) * np.float32(1.0000001), np.arange(2), ["cat", "dog"])
    assert evaluation.cross_entropy <= 0
    text = summaries.evaluation_text(evaluation)
    assert "cross entropy 0.000" in text and "-0.0" not in text


def test_many_classes_show_the_worst_and_say_so():
    probabilities, labels = np.eye(30)[np.r_[1, 1:30]], np.arange(30)
    text = summaries.evaluation_text(evaluate(probabilities, labels, [f"class {i}" for i in range(30)]))
    assert "the 10 worst of 30 classes" in text and "class 0" in text and "prediction" not in text


def test_columns_line_up_whatever_the_names_are():
    lines = console.table(("class", "n"), [("日本", "1"), ("\x1b[31mred", "22"), ("é", "333")]).splitlines()
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1 and "\x1b" not in "".join(lines)


def test_copies_are_told_where_they_narrow_no_interval():
    probabilities, labels = np.tile([[0.9, 0.1]], (12, 1)), np.zeros(12, int)
    told = summaries.evaluation_text(evaluate(probabilities, labels, ["cat", "dog"], groups=[b"a"] * 6 + [b"b"] * 6))
    assert "on 12 test photos" in told and "2 different photos, copies count as one" in told and "34.2 % to 100.0 %" in told
    assert "different" not in summaries.evaluation_text(evaluate(probabilities, labels, ["cat", "dog"]))


def test_a_ladder_on_a_sample_says_so():
    rung = {"name": "last layer", "look": "", "accuracy": 0.9, "interval": (0.8, 0.95), "cross_entropy": 0.3, "seconds": 1.0}
    rungs = [rung | {"n_images": 1_500, "is_taken": True, "why": "where the climb begins"}]
    assert "among a sample of 1,500 of the 2,936 to learn from:" in summaries.ladder_text(rungs, 2_936)
    assert "among 1,500:" in summaries.ladder_text(rungs, 1_500)


def test_a_note_is_a_line_for_those_who_wait_and_none_when_quiet(capsys):
    for quiet in (False, True):
        with console.Progress(quiet=quiet) as progress:
            progress.note("about 40 s")
    assert capsys.readouterr().err == "headstart: about 40 s\n"
