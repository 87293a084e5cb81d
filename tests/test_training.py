"""The whole path, on photos that can be learnt."""

import json

import headstart


def test_a_folder_of_photos_becomes_a_classifier(photos, tiny_onnx, tmp_path):
    run = headstart.train(photos, tmp_path / "run", backbone=str(tiny_onnx))
    assert run.evaluation.accuracy > 0.95
    assert json.loads((run.folder / "run.json").read_text())["evaluation"]["accuracy"] == run.evaluation.accuracy
    (prediction,) = headstart.load(run.folder).predict(photos / "red" / "red 0.png")
    assert prediction.prediction == "red"
