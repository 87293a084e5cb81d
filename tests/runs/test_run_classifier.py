"""The classifier of a training, and of an evaluation."""

import json
import shutil

import pytest

import headstart
from headstart.errors import DataError
from headstart.runs.open import open_run
from headstart.runs.run_classifier import classifier_of_run


def test_a_training_has_its_own_and_an_evaluation_that_of_its_run(finished, tmp_path):
    own = classifier_of_run(open_run(finished))
    photos = finished.parent / "photos"
    evaluated = headstart.evaluate_run(finished, photos, output=tmp_path / "evaluation", cache=tmp_path / "cache")
    assert classifier_of_run(open_run(evaluated.folder)).content == own.content


def test_an_evaluation_of_a_run_on_another_machine_is_refused(finished, tmp_path):
    photos = finished.parent / "photos"
    folder = headstart.evaluate_run(finished, photos, output=tmp_path / "e", cache=tmp_path / "cache").folder
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "run": r"\\host\share\run"}))
    with pytest.raises(DataError, match="on another machine"):
        classifier_of_run(open_run(folder))


def test_a_run_without_its_classifier_is_refused(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "model.onnx").unlink()
    with pytest.raises(DataError, match=r"holds no model\.onnx"):
        classifier_of_run(open_run(copy))
