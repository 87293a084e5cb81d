"""The judge: what was fine-tuned is taken where it is better beyond chance, and only there."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from headstart.codes.representation import Representation
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.errors import HeadstartError
from headstart.finetune.recipe import FineTuning
from headstart.heads.head import Head
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import choose_head
from headstart.selection.rungs import Selection
from headstart.training.steps import finetuning
from headstart.training.steps.training_set import TrainingSet

N = 60


@pytest.fixture
def lite(tiny):
    """A backbone that goes by the name of one that torch has."""
    return replace(tiny, name="efficientnet-lite0")


@pytest.fixture
def data(lite):
    """Codes that say nothing of the labels, so that the frozen head guesses; a third of the images are validation's."""
    rng = np.random.default_rng(0)
    splits = np.array([TRAIN, TRAIN, VALIDATION, TEST] * (N // 4), np.int8)
    digests = [bytes([i]) * 32 for i in range(N)]
    codes = rng.normal(size=(N, lite.n_codes)).astype(np.float16)
    labels = rng.integers(0, 2, N)
    return TrainingSet(
        np.arange(N), np.arange(N), [b""] * N, [""] * N, codes, labels, ("a", "b"), digests, digests, splits, [], []
    )


@pytest.fixture
def selection(lite, data):
    learn = data.splits != TEST
    digests = [d for d, used in zip(data.digests, learn, strict=True) if used]
    return Selection(
        Representation((lite,)), choose_head(LabelledCodes(data.codes[learn], data.labels[learn], 2, digests)), ()
    )


def judged(monkeypatch, data, selection, right, **options):
    """What the judge says of a tuned network that labels a share `right` of the validation images rightly."""
    validation = np.flatnonzero(data.splits == VALIDATION)
    n_right = round(right * len(validation))
    answers = np.where(np.arange(len(validation)) < n_right, data.labels[validation], 1 - data.labels[validation])
    tuned = SimpleNamespace(
        backbone=replace(selection.representation.backbones[0], name="tuned"),
        head=Head(((np.zeros((48, 2), np.float32), np.zeros(2, np.float32)),)),
        validation_index=validation,
        validation_probabilities=np.where(np.eye(2)[answers] > 0, 0.9, 0.1).astype(np.float32),
    )
    monkeypatch.setattr(finetuning, "torch_network", lambda name: SimpleNamespace(preprocess=None))
    monkeypatch.setattr(finetuning, "replace", lambda value, **_: value)
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: tuned)
    return finetuning.fine_tuned(data, lambda look, rows: data.codes[rows], selection, options=FineTuning(), **options)


def test_what_is_better_beyond_chance_is_taken_with_its_own_held_out_answers(monkeypatch, data, selection):
    verdict = judged(monkeypatch, data, selection, 1.0)
    assert verdict.is_taken and verdict.comparison.verdict == "better"
    assert verdict.selection.representation.name == "tuned"
    choice = verdict.selection.choice
    held_out = np.flatnonzero(data.splits != TEST)[choice.held_out]
    assert (data.splits[held_out] == VALIDATION).all()
    assert (choice.probabilities.argmax(axis=1) == data.labels[held_out]).all()


@pytest.mark.parametrize("right", [0.6, 0.0])
def test_what_is_not_better_beyond_chance_is_left(monkeypatch, data, selection, right):
    verdict = judged(monkeypatch, data, selection, right)
    assert not verdict.is_taken and verdict.selection is selection
    assert judged(monkeypatch, data, selection, right, force=True).is_taken


def test_backbones_that_torch_does_not_have_are_refused(data, selection, tiny):
    with pytest.raises(HeadstartError, match="fine-tuning needs one backbone that torch has"):
        strangers = replace(selection, representation=Representation((replace(tiny, name="mine"),)))
        finetuning.fine_tuned(data, lambda look, rows: data.codes[rows], strangers, options=FineTuning())


def test_without_validation_there_is_nothing_to_judge_on(data, selection):
    none = replace(data, splits=np.where(data.splits == VALIDATION, TRAIN, data.splits))
    with pytest.raises(HeadstartError, match="validation"):
        finetuning.fine_tuned(none, lambda look, rows: data.codes[rows], selection, options=FineTuning())


def test_a_class_that_fine_tuning_would_never_see_is_told(monkeypatch, data, selection):
    """A class of a single photo may have drawn validation: the frozen classifier learns from that, a tuned one would not."""
    labels = np.where(data.splits == VALIDATION, data.labels, 0)
    with pytest.raises(HeadstartError, match="no photo of 'b' fell to it"):
        judged(monkeypatch, replace(data, labels=labels), selection, 1.0)
