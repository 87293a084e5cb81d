"""The run folder: its place, its draft, and that nothing of the user's is overwritten."""

import csv
import os
from pathlib import Path

import pytest

from headstart.errors import OutputError
from headstart.runs.folder import PredictionRow, check_free, draft_of, publish, reserve, write_tables


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_name_and_an_empty_folder_are_free(here):
    assert check_free(here / "new") is check_free(here / "photos") is None


@pytest.mark.parametrize("kind", ["full", "file", "below a file", "link to nothing"])
def test_whatever_is_there_is_never_overwritten(here, kind):
    place = here / "run"
    if kind == "full":
        (place / "mine").mkdir(parents=True)
    elif kind == "link to nothing":
        place.symlink_to(here / "nowhere")
    else:
        place.touch()
    with pytest.raises(OutputError, match="with -o"):
        check_free(place / "deeper" if kind == "below a file" else place)


def test_runs_without_a_name_are_counted_past_all_that_is_there_or_being_written(here):
    Path("photos-run").touch()
    with reserve(None, "photos") as first, reserve(None, "photos") as second, reserve(None, "photos", "evaluation") as other:
        assert (str(first), str(second), str(other)) == ("photos-run-2", "photos-run-3", "photos-evaluation")
        assert not first.exists()
    with reserve(None, here / "photos") as again:
        assert str(again) == "photos-run-2"  # nobody published it


def test_a_table_gives_its_name_without_the_suffix(here):
    Path("labels.csv").touch()
    with reserve(None, "labels.csv") as folder:
        assert str(folder) == "labels-run"


def test_a_name_that_another_run_writes_is_refused_until_that_has_ended(here):
    with (
        reserve("run", "photos"),
        pytest.raises(OutputError, match="another run writes run at this moment"),
        reserve("run", "photos"),
    ):
        pass
    with reserve("run", "photos") as folder:
        assert str(folder) == "run"


def test_folders_that_were_made_for_a_run_that_came_to_nothing_are_gone(here):
    with pytest.raises(ZeroDivisionError), reserve(here / "a" / "b" / "run", "photos"):
        raise ZeroDivisionError
    assert sorted(p.name for p in here.iterdir()) == ["photos"]


@pytest.mark.parametrize("place", [".", "..", "photos/..", "/"])
def test_a_folder_without_a_name_of_its_own_is_no_place(here, place):
    with pytest.raises(OutputError), reserve(place, "photos"):
        pass


def test_a_draft_is_hidden_published_whole_and_else_removed(here):
    with draft_of(here / "run") as draft:
        (draft / "run.json").write_text("{}")
        assert draft.name.startswith(".headstart-") and draft.parent == here and not (here / "run").exists()
        assert publish(draft, here / "run") == here / "run"
    assert sorted(p.name for p in here.iterdir()) == ["photos", "run"] and os.listdir("run") == ["run.json"]
    with pytest.raises(ZeroDivisionError), draft_of(here / "other"):
        raise ZeroDivisionError
    assert sorted(p.name for p in here.iterdir()) == ["photos", "run"]


def test_what_appeared_meanwhile_is_not_overwritten(here):
    with draft_of(here / "run") as draft:
        (here / "run").mkdir()
        publish(draft, here / "run")  # an empty folder has nothing to lose
    with draft_of(here / "run2") as draft:
        (here / "run2").mkdir()
        (here / "run2" / "precious").touch()
        with pytest.raises(OutputError, match="never overwritten"):
            publish(draft, here / "run2")
    assert os.listdir("run2") == ["precious"]


def test_tables_hold_odd_names_and_no_formula(here):
    rows = [
        PredictionRow('a,\n"b".jpg', "test", "red", "=1+1", 0.5),
        PredictionRow(os.fsdecode(b"\xff.jpg"), "test", "red", "red", 1 / 3),
    ]
    write_tables(here, ["red", "two\nlines"], rows, [("x.jpg", "no photo")])
    assert (here / "labels.txt").read_text() == "red\ntwo lines\n"
    with (here / "predictions.csv").open(newline="", errors="surrogateescape") as file:
        first, second = csv.DictReader(file)
    assert first["path"] == 'a,\n"b".jpg' and not first["prediction"].startswith("=")
    assert second["path"] == os.fsdecode(b"\xff.jpg") and second["probability"] == "0.333333"
    assert (here / "skipped.csv").read_text() == "path,reason\nx.jpg,no photo\n"
