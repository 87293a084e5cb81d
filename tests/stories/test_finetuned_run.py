"""A training that fine-tunes a real network, from photos to a classifier, its record and its report."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import headstart
from headstart.cli import main
from headstart.record import RunRecord
from support.photos import COLOURS, write_photos
from support.records import undeclared


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """The folder of photos, and the run."""
    root = tmp_path_factory.mktemp("finetuned")
    arguments = [str(write_photos(root / "photos", n=8)), "-o", str(root / "run"), "--cache", str(root / "cache")]
    options = [
        "--finetune",
        "--epochs",
        "1",
        "--batch",
        "8",
        "--unfreeze",
        "head",
        "--force",
        "--budget",
        "0",
        "--test",
        "0",
        "--quiet",
    ]
    assert main.main(["train", *arguments, *options]) == 0
    return root / "photos", root / "run"


def test_its_record_says_how_it_went_in_entries_that_are_declared(finetuned):
    record = json.loads((finetuned[1] / "run.json").read_text())
    assert not list(undeclared(record, RunRecord))
    tuning = record["fine_tuning"]
    assert tuning["is_taken"] and tuning["epochs"] == 1 and [e["epoch"] for e in tuning["history"]] == [0, 1]
    assert tuning["history"][0]["train_loss"] is None and tuning["history"][1]["train_loss"] > 0
    assert tuning["comparison"]["sentence"]


def test_its_classifier_is_the_fine_tuned_one_and_predicts(finetuned):
    photos, run = finetuned
    classifier = headstart.load(run)
    assert classifier.about["backbone"]["name"] == "efficientnet-lite0 (fine-tuned)"
    predictions = classifier.predict([photos / name / f"{name} 0.png" for name in COLOURS])
    assert [p.prediction for p in predictions] == [*COLOURS]


def test_its_report_and_events_show_the_epochs(finetuned):
    run = finetuned[1]
    assert "fine-tun" in (run / "report.html").read_text("utf-8").lower()
    events = b"".join(path.read_bytes() for path in run.rglob("events.out.*"))
    assert b"fine_tuning/cross_entropy" in events
