"""Judges the chosen head on held-out photos: the test split, or without one the cross-validation.

It decides what a classifier is judged on, and which rows predictions.csv has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.data import labels
from headstart.data.splits import SPLITS
from headstart.errors import DataError
from headstart.evaluation.metrics import Evaluation, evaluate
from headstart.evaluation.multilabel import MultiLabelEvaluation, best_thresholds, evaluate_multilabel
from headstart.runs.folder import PredictionRow
from headstart.selection.cross_validation import Choice, cross_fitted_thresholds
from headstart.training.steps.training_set import TrainingSet
from headstart.training.steps.trust import Trained


@dataclass(frozen=True)
class HeldOutJudged:
    """How good the head is, the rows that say so, and of several labels an image, from which probability on each applies.

    is_right: (m,) whether the cross-validation told each of the images that it held out rightly.
    """

    evaluation: Evaluation | MultiLabelEvaluation
    held_out: list[PredictionRow]
    thresholds: np.ndarray | None
    is_right: np.ndarray


def judge_held_out(trained: Trained) -> HeldOutJudged:
    """Judge on the test split, which nothing has seen so far; where it is empty, on the cross-validation.

    Gives all that was held out as well: test judged by the head, the others by the fits that had not seen them. Raises
    DataError where there is nothing to judge by.
    """
    with trained.workspace.stage("evaluate"):
        data, choice = trained.data, trained.choice
        others = data.learn[choice.held_out]
        of_test = choice.head.probabilities(trained.test_codes)
        if not len(data.test) and not len(others):
            raise DataError("there are too few different images to test with; add photos")
        if not labels.are_many(data.labels):
            evaluation = _evaluate(data, choice, of_test, others)
            predictions = of_test.argmax(axis=1), choice.probabilities.argmax(axis=1)
            is_right = predictions[1] == data.labels[others]
            return HeldOutJudged(
                evaluation, _rows(data, others, (of_test, choice.probabilities), predictions), None, is_right
            )
        thresholds = best_thresholds(choice.probabilities, data.labels[others]).astype(np.float32)
        # What chose the thresholds is not judged by them.
        own = cross_fitted_thresholds(choice.probabilities, data.labels[others], [data.groups[i] for i in others])
        is_in = of_test >= thresholds, choice.probabilities >= own
        return HeldOutJudged(
            _evaluate_labels(data, choice, of_test, others, (thresholds, own)),
            _rows(data, others, (of_test, choice.probabilities), is_in),
            thresholds,
            (is_in[1] == data.labels[others]).all(axis=1),
        )


def _evaluate(data: TrainingSet, choice: Choice, of_test: np.ndarray, others: np.ndarray) -> Evaluation:
    """of_test: (m, k) probabilities of the test split; others: the rows that the cross-validation held out."""
    is_tested = len(data.test) > 0
    rows, probabilities = (data.test, of_test) if is_tested else (others, choice.probabilities)
    split, groups = "test" if is_tested else "cross-validation", [data.groups[i] for i in rows]
    return evaluate(probabilities, data.labels[rows], data.classes, split=split, groups=groups)


def _evaluate_labels(
    data: TrainingSet, choice: Choice, of_test: np.ndarray, others: np.ndarray, thresholds: tuple[np.ndarray, np.ndarray]
) -> MultiLabelEvaluation:
    """As _evaluate, of several labels an image. thresholds: (k,) of the classifier, and (n, k) for each of the others."""
    is_tested = len(data.test) > 0
    rows, probabilities = (data.test, of_test) if is_tested else (others, choice.probabilities)
    return evaluate_multilabel(
        probabilities,
        data.labels[rows],
        data.classes,
        thresholds[0],
        image_thresholds=None if is_tested else thresholds[1],
        split="test" if is_tested else "cross-validation",
        groups=[data.groups[i] for i in rows],
    )


def _rows(
    data: TrainingSet,
    others: np.ndarray,
    probabilities: tuple[np.ndarray, np.ndarray],
    predictions: tuple[np.ndarray, np.ndarray],
) -> list[PredictionRow]:
    """The rows of predictions.csv, in the data's order; probabilities, predictions: of the test split, of the others."""
    both = zip(
        [*data.test, *others],
        [*probabilities[0], *probabilities[1]],
        [*predictions[0], *predictions[1]],
        strict=True,
    )
    return [
        PredictionRow(
            data.names[i],
            SPLITS[data.splits[i]],
            labels.label_text(data.labels[i], data.classes),
            labels.label_text(prediction, data.classes),
            float(p.max()),
        )
        for i, p, prediction in sorted(both, key=lambda row: int(data.places[row[0]]))
    ]
