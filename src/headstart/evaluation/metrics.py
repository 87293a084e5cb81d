"""Metrics of a classifier with one label an image: accuracy, balanced accuracy, top-5, precision, recall, F1, confusion.

Probabilities and labels in, an Evaluation out, with 95 % intervals that count copies of a photo as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from headstart.numerics.intervals import effective_size, share_interval, wilson_interval
from headstart.record import EvaluationRecord

TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """The precision, recall and F1 of one class; None where they are 0/0 (no precision without predictions)."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Accuracy:
    """How many of n images a classifier that was not fitted on them labels correctly.

    split: which images those are: `test`, or `cross-validation` where no test split could be had. n_different: photos among
    them, copies counted once. interval: the 95 % Wilson interval of the accuracy, of as many photos as say as much
    together (intervals.effective_size).
    """

    split: str
    n_images: int
    n_different: int
    n_correct: int
    accuracy: float
    interval: tuple[float, float]

    def to_json(self) -> EvaluationRecord:
        """Plain dictionaries and lists, for run.json and --json."""
        return cast(EvaluationRecord, asdict(self))


@dataclass(frozen=True)
class Evaluation(Accuracy):
    """The results of a classifier of one label an image.

    top5: None for fewer than ten classes, where it would say little. cross_entropy: mean, in nats. confusion: (k, k), rows
    are labels, columns predictions. balanced_accuracy: the mean recall of the classes that occur; balanced_interval: its
    95 %.
    """

    top5: float | None
    cross_entropy: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float
    balanced_interval: tuple[float, float]


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    split: str = "test",
    groups: Sequence[bytes] | None = None,
) -> Evaluation:
    """Compare (n, k) probabilities with (n,) labels; raises ValueError for n = 0, of which nothing can be said.

    groups: the same for copies of a photo (checks.copies); None where there are none.
    """
    n, k = probabilities.shape
    if n == 0:
        raise ValueError("there is no image to evaluate on")
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((k, k), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    n_correct = int(np.trace(confusion))
    balanced, balanced_interval = balanced_accuracy(predicted == labels, labels, groups)
    of_label = probabilities[np.arange(n), labels].astype(np.float64)
    top5 = None
    if k >= 2 * TOP:
        top5 = float((np.argpartition(-probabilities, TOP - 1, axis=1)[:, :TOP] == labels[:, None]).any(axis=1).mean())
    return Evaluation(
        split=split,
        n_images=n,
        n_different=n if groups is None else len(set(groups)),
        n_correct=n_correct,
        accuracy=n_correct / n,
        interval=share_interval(n_correct, n, effective_size(groups, n)),
        top5=top5,
        cross_entropy=float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        classes=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=tuple(map(tuple, confusion.tolist())),
        balanced_accuracy=balanced,
        balanced_interval=balanced_interval,
    )


def balanced_accuracy(
    is_right: np.ndarray, labels: np.ndarray, groups: Sequence[bytes] | None = None
) -> tuple[float, tuple[float, float]]:
    """The mean recall of the classes that occur, and its 95 % interval: (n,) booleans and (n,) labels, n > 0.

    groups: see evaluate. The interval is the wider of two. One is put together from the classes' own Wilson intervals (Zou &
    Donner 2008, Statistics in Medicine 27:1693), which is too narrow for many classes of few photos; the other is Wilson's
    of as many photos as say as much about the mean of the classes (Kish 1965), too narrow for few classes unlike in size.
    """
    recalls, intervals, n_effectives = [], [], []
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        n, n_right = len(rows), int(is_right[rows].sum())
        n_effective = effective_size(None if groups is None else [groups[i] for i in rows.tolist()], n)
        recalls.append(n_right / n)
        intervals.append(share_interval(n_right, n, n_effective))
        n_effectives.append(n_effective)
    recall, (low, high), k = np.array(recalls), np.array(intervals).T, len(recalls)
    mean = float(recall.mean())
    below, above = float(np.linalg.norm(recall - low)) / k, float(np.linalg.norm(high - recall)) / k
    n_alike = float(k**2 / (1 / np.array(n_effectives)).sum())
    kish = wilson_interval(mean * n_alike, n_alike)
    return mean, (min(mean - below, kish[0]), max(mean + above, kish[1]))


def _class_score(confusion: np.ndarray, i: int, name: str) -> ClassScore:
    right, predicted, support = (int(x) for x in (confusion[i, i], confusion[:, i].sum(), confusion[i].sum()))
    return ClassScore(
        label=name,
        precision=right / predicted if predicted else None,
        recall=right / support if support else None,
        f1=f1_score(right, predicted, support),
        support=support,
    )


def f1_score(right: int, predicted: int, support: int) -> float | None:
    """The F1 of `right` among as many predicted and as many true ones; None for 0/0."""
    return 2 * right / (predicted + support) if predicted + support else None
