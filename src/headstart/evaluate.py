"""How good a classifier is, in numbers that say how far they can be trusted. Arrays in, an Evaluation out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """One class's own numbers; None where they are 0/0 (a class that is never predicted has no precision)."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on n images that it was not fitted on.

    split: which images those are: `test`, or `cross-validation` where no test split could be had. interval: the 95 %
    Wilson interval of the accuracy. top5: None for fewer than ten classes, where it would say little. cross_entropy: mean,
    in nats. confusion: (k, k), rows are labels, columns predictions.
    """

    split: str
    n_images: int
    n_correct: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    cross_entropy: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for run.json and --json."""
        return asdict(self)


def evaluate(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, split: str = "test") -> Evaluation:
    """Compare (n, k) probabilities with (n,) labels; raises ValueError for n = 0, of which nothing can be said."""
    n, k = probabilities.shape
    if n == 0:
        raise ValueError("there is no image to evaluate on")
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((k, k), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    n_correct = int(np.trace(confusion))
    of_label = probabilities[np.arange(n), labels].astype(np.float64)
    top5 = None
    if k >= 2 * TOP:
        top5 = float((np.argpartition(-probabilities, TOP - 1, axis=1)[:, :TOP] == labels[:, None]).any(axis=1).mean())
    return Evaluation(
        split=split,
        n_images=n,
        n_correct=n_correct,
        accuracy=n_correct / n,
        interval=wilson_interval(n_correct, n),
        top5=top5,
        cross_entropy=float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        classes=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def wilson_interval(n_correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share that was n_correct of n (Wilson 1927, eq. 4); (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    share = n_correct / n
    centre = share + Z95**2 / (2 * n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    low, high = (centre - half) / (1 + Z95**2 / n), (centre + half) / (1 + Z95**2 / n)
    return (0.0 if n_correct == 0 else float(low)), (1.0 if n_correct == n else float(high))


def _class_score(confusion: np.ndarray, i: int, name: str) -> ClassScore:
    right, predicted, support = (int(x) for x in (confusion[i, i], confusion[:, i].sum(), confusion[i].sum()))
    return ClassScore(
        label=name,
        precision=right / predicted if predicted else None,
        recall=right / support if support else None,
        f1=2 * right / (predicted + support) if predicted + support else None,
        support=support,
    )
