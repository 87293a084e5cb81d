"""Options of a training: what cannot be done is refused before any photo is read."""

from dataclasses import replace

import numpy as np
import pytest

from headstart.backbones.find import BackboneSpec
from headstart.data.datasets import Dataset
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.training.options import NO_TUNING, TrainOptions, TuningOptions


@pytest.fixture
def options(tmp_path):
    return TrainOptions(
        backbone=BackboneSpec(),
        head="auto",
        views="auto",
        effort="normal",
        budget=None,
        balance=False,
        tuning=NO_TUNING,
        learning_curve=False,
        report="full",
        fixes=None,
        test=0.2,
        learn_from_validation=False,
        seed=0,
        cache_dir=tmp_path,
        hardware=Hardware(),
        arguments={},
    )


def dataset_of(labels, n_classes):
    labels = np.asarray(labels)
    names = tuple(f"class {i}" for i in range(n_classes))
    return Dataset([f"{i}.png" for i in range(len(labels))], labels, names, np.full(len(labels), -1, np.int8))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"test": -0.1}, "share to test with is -0.1"),
        ({"test": 0.95}, "expected 0 to 0.9"),
        ({"head": "svm"}, "there is no head 'svm'; the heads: auto, .*softmax"),
        ({"seed": -1}, "the seed is -1"),
        ({"views": "rotatoin=3"}, "did you mean rotation"),
        ({"tuning": TuningOptions(True, None, None, None, False), "balance": True}, "leave --balance away"),
        ({"tuning": TuningOptions(True, None, None, None, False), "backbone": BackboneSpec("a.onnx")}, "that torch has"),
    ],
)
def test_nonsense_is_refused(options, change, message):
    with pytest.raises(HeadstartError, match=message):
        replace(options, **change)


def test_options_of_fine_tuning_without_it_are_named():
    with pytest.raises(HeadstartError, match="unfreeze, force belong to fine-tuning; add --finetune"):
        TuningOptions(False, "half", None, None, True)


def test_fine_tuning_runs_where_the_networks_do(options):
    pytest.importorskip("torch")
    assert options.fine_tuning() is None
    wanted = replace(options, tuning=TuningOptions(True, "half", 3, 4, False), hardware=Hardware("CUDA:1"))
    tuning = wanted.fine_tuning()
    assert (tuning.unfreeze, tuning.epochs, tuning.batch, tuning.device) == ("half", 3, 4, "cuda:1")


@pytest.mark.parametrize(
    "head, labels, n_classes, first",
    [
        ("auto", [0, 1, 2], 3, "softmax"),
        ("auto", [[1, 0], [1, 1]], 2, "sigmoid"),
        ("nearest", [0, 1, 2], 3, "nearest"),
        ("sigmoid", [0, 1], 2, "sigmoid"),
    ],
)
def test_the_first_head_suits_the_labels(options, head, labels, n_classes, first):
    assert replace(options, head=head).first_head(dataset_of(labels, n_classes)) == first


@pytest.mark.parametrize(
    "change, labels, n_classes, message",
    [
        ({"balance": True}, [[1, 0], [1, 1]], 2, "nothing to balance"),
        ({"head": "nearest"}, [[1, 0], [1, 1]], 2, "several labels each"),
        ({"head": "sigmoid"}, [0, 1, 2], 3, "here are 3 classes: use softmax"),
    ],
)
def test_a_head_that_cannot_learn_the_labels_is_refused(options, change, labels, n_classes, message):
    with pytest.raises(HeadstartError, match=message):
        replace(options, **change).first_head(dataset_of(labels, n_classes))
