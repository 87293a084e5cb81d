"""Verifying a run, a file and an export."""

import json
import shutil

import pytest

from headstart.errors import ClassifierError
from headstart.export.export_run import export_run
from headstart.export.verify import verify
from headstart.training.train import train
from support.photos import write_photos


@pytest.fixture(scope="module")
def run(tmp_path_factory, deep_onnx):
    root = tmp_path_factory.mktemp("verify")
    photos = write_photos(root / "photos", n=20)
    return train(photos, root / "run", backbone=str(deep_onnx), cache=root / "cache").folder


def told(verified):
    return {finding.what: (finding.is_right, finding.text) for finding in verified.findings}


def test_a_run_says_here_what_it_said_on_its_day(run):
    verified = verify(run)
    assert verified.is_right
    found = told(verified)
    assert found["file"][0] and found["hash"][0] and found["predictions"][0]
    assert "60 photos" in found["photos"][1] and "deep" in found["origin"][1]


def test_another_file_in_the_runs_place_is_noticed(run, tmp_path, deep_onnx):
    other = train(
        run.parent / "photos", tmp_path / "other", backbone=str(deep_onnx), cache=tmp_path / "cache", seed=7
    ).folder
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    shutil.copy(other / "model.onnx", mixed / "model.onnx")
    verified = verify(mixed)
    assert not verified.is_right and told(verified)["hash"][0] is False
    assert "another than" in told(verified)["hash"][1]


def test_photos_that_are_gone_leave_the_predictions_open(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.move(run.parent / "photos", tmp_path / "elsewhere")
    try:
        assert told(verify(copy))["predictions"][0] is None
        assert told(verify(copy, photos=tmp_path / "elsewhere"))["predictions"][0] is True
    finally:
        shutil.move(tmp_path / "elsewhere", run.parent / "photos")


def test_an_export_is_the_file_that_was_compared_or_not(run, tmp_path):
    folder = export_run(run, output=tmp_path / "out").folder
    verified = verify(folder)
    assert verified.is_right and "60 of 60 photos" in told(verified)["comparison"][1]
    assert json.loads(json.dumps(verified.to_json()))["is_right"] is True
    (folder / "classifier.onnx").write_bytes(b"another")
    assert not verify(folder).is_right
    (folder / "classifier.json").write_text("{}")
    with pytest.raises(ClassifierError, match="no whole export"):
        verify(folder)


def test_a_file_alone_is_checked_as_far_as_it_goes(run, tmp_path):
    assert [finding.what for finding in verify(run / "model.onnx").findings] == ["file", "origin"]
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ClassifierError):
        verify(tmp_path / "model.onnx")
