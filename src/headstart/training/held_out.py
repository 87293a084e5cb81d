"""Judges what was learnt on the photos that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.data import labels
from headstart.data.splits import SPLITS, TEST
from headstart.errors import DataError
from headstart.evaluation.metrics import Evaluation, evaluate
from headstart.evaluation.multilabel import MultiLabelEvaluation, best_thresholds, evaluate_multilabel
from headstart.runs.folder import HeldOut
from headstart.selection.cross_validation import Choice, cross_fitted_thresholds
from headstart.training.learnable import TrainingSet


@dataclass(frozen=True)
class HeldOutJudged:
    """How good the head is, the rows that say so, and of several labels an image, from which probability on each applies.

    is_right: (m,) whether the cross-validation told each of the images that it held out rightly.
    """

    evaluation: Evaluation | MultiLabelEvaluation
    held_out: list[HeldOut]
    thresholds: np.ndarray | None
    is_right: np.ndarray


def judge_held_out(data: TrainingSet, choice: Choice, tested: np.ndarray) -> HeldOutJudged:
    """Judge on the test split, which nothing has seen so far; where it is empty, on the cross-validation.

    Gives all that was held out as well: test judged by the head, the others by the fits that had not seen them.
    """
    test = np.flatnonzero(data.splits == TEST)
    others = np.flatnonzero(data.splits != TEST)[choice.held_out]
    of_test = choice.head.probabilities(tested)
    probabilities, judged, split = of_test, test, "test"
    if not len(test):
        probabilities, judged, split = choice.probabilities, others, "cross-validation"
    if not len(judged):
        raise DataError("there are too few different images to test with; add photos")
    thresholds = own = None
    groups = [data.groups[i] for i in judged]
    evaluation: Evaluation | MultiLabelEvaluation
    if labels.are_many(data.labels):
        thresholds = best_thresholds(choice.probabilities, data.labels[others]).astype(np.float32)
        # What chose the thresholds is not judged by them.
        of_others = [data.groups[i] for i in others]
        own = cross_fitted_thresholds(choice.probabilities, data.labels[others], of_others)
        evaluation = evaluate_multilabel(
            probabilities,
            data.labels[judged],
            data.classes,
            thresholds,
            own=None if len(test) else own,
            split=split,
            groups=groups,
        )
    else:
        evaluation = evaluate(probabilities, data.labels[judged], data.classes, split=split, groups=groups)
    if thresholds is None or own is None:
        said_of_test, said_of_others = of_test.argmax(axis=1), choice.probabilities.argmax(axis=1)
        is_right = said_of_others == data.labels[others]
    else:
        said_of_test, said_of_others = of_test >= thresholds, choice.probabilities >= own
        is_right = (said_of_others == data.labels[others]).all(axis=1)
    both = zip([*test, *others], [*of_test, *choice.probabilities], [*said_of_test, *said_of_others], strict=True)
    rows = []
    for i, p, said in sorted(both, key=lambda row: int(row[0])):
        label, prediction = labels.label_text(data.labels[i], data.classes), labels.label_text(said, data.classes)
        rows.append(HeldOut(data.names[i], SPLITS[data.splits[i]], label, prediction, float(p.max())))
    return HeldOutJudged(evaluation, rows, thresholds, is_right)
