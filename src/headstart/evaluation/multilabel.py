"""Metrics of a classifier with several labels an image: average precision (mAP), F1, and the threshold of each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.evaluation.metrics import Accuracy, f1_score
from headstart.numerics.intervals import effective_size, share_interval

FEW_POSITIVES = 5  # images of a label, below which its own best threshold is mostly luck


@dataclass(frozen=True)
class LabelScore:
    """The results for one label at its threshold; None where they are 0/0, average_precision where no image has it."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    support: int
    threshold: float


@dataclass(frozen=True)
class MultiLabelEvaluation(Accuracy):
    """The results of a classifier of several labels an image; an image is correct where exactly the right labels are given.

    mean_average_precision: over the labels that occur; it needs no thresholds. f1_micro: of all decisions together.
    f1_macro: mean over the labels whose F1 is not 0/0.
    """

    mean_average_precision: float | None
    f1_micro: float | None
    f1_macro: float | None
    classes: tuple[LabelScore, ...]


def evaluate_multilabel(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray,
    *,
    image_thresholds: np.ndarray | None = None,
    split: str = "test",
    groups: Sequence[bytes] | None = None,
) -> MultiLabelEvaluation:
    """Compare (n, k) probabilities with (n, k) labels of 0 and 1, predicted from (k,) thresholds on; ValueError for n = 0.

    image_thresholds: (n, k), to judge each image by instead, where the others were chosen on these very images
    (held_out_thresholds). groups: see evaluate.
    """
    n = len(probabilities)
    if n == 0:
        raise ValueError("there is no image to evaluate on")
    truth = np.asarray(labels) > 0
    predicted = probabilities >= (thresholds if image_thresholds is None else image_thresholds)
    n_correct = int((predicted == truth).all(axis=1).sum())
    scores = tuple(
        _label_score(name, probabilities[:, i], predicted[:, i], truth[:, i], float(thresholds[i]))
        for i, name in enumerate(classes)
    )
    return MultiLabelEvaluation(
        split=split,
        n_images=n,
        n_different=n if groups is None else len(set(groups)),
        n_correct=n_correct,
        accuracy=n_correct / n,
        interval=share_interval(n_correct, n, effective_size(groups, n)),
        mean_average_precision=_mean([s.average_precision for s in scores]),
        f1_micro=f1_score(int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())),
        f1_macro=_mean([s.f1 for s in scores]),
        classes=scores,
    )


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Choose for each label the threshold whose F1 is highest: (n, k) held-out probabilities and labels to (k,) float64.

    Thresholds lie midway between neighbouring probabilities; of equally good ones the nearest to 0.5 is taken. Labels of
    fewer than FEW_POSITIVES images share one, chosen on all labels' decisions together: of 1, 2, 3 in 300 images, simulated,
    F1 on new images was 0.18, 0.22, 0.25 so, 0.16, 0.20, 0.23 with their own, 0.11, 0.14, 0.17 at 0.5. A label of no image
    has 0.5.
    """
    truth = np.asarray(labels) > 0
    shared = _best_threshold(probabilities.ravel(), truth.ravel())
    return np.array(
        [
            0.5 if not n else shared if n < FEW_POSITIVES else _best_threshold(probabilities[:, i], truth[:, i])
            for i, n in enumerate(truth.sum(axis=0).tolist())
        ]
    )


def held_out_thresholds(probabilities: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Choose for each image thresholds that it had no part in: (n, k) probabilities and labels to (n, k) float32.

    parts: (n,) which part each image is of; the thresholds of a part are the best of all other parts together.
    """
    thresholds = np.full(probabilities.shape, 0.5, np.float32)
    for part in np.unique(parts):
        others = parts != part
        if others.any():
            thresholds[~others] = best_thresholds(probabilities[others], labels[others])
    return thresholds


def _best_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        return 0.5
    values, right, predicted = _from_highest(probabilities, truth)
    following = np.append(values[1:], 0.0)
    f1 = 2 * right / (predicted + truth.sum())
    middles = ((values + following) / 2)[f1 >= f1.max() - 1e-12]
    return float(middles[np.abs(middles - 0.5).argmin()])


def _from_highest(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each probability that occurs, highest first; and of the images from the top to it: those with the label, and all."""
    order = np.argsort(-probabilities, kind="stable")
    values = probabilities[order].astype(np.float64)
    is_last = np.append(values[1:] != values[:-1], True)
    return values[is_last], np.cumsum(truth[order])[is_last], np.arange(1, len(values) + 1)[is_last]


def _average_precision(probabilities: np.ndarray, truth: np.ndarray) -> float | None:
    """The precisions at each step of recall, weighted by the step, not interpolated: as scikit-learn defines it."""
    if not truth.any():
        return None
    _, right, predicted = _from_highest(probabilities, truth)
    return float((np.diff(right, prepend=0) / truth.sum()) @ (right / predicted))


def _label_score(
    name: str, probabilities: np.ndarray, predicted: np.ndarray, truth: np.ndarray, threshold: float
) -> LabelScore:
    right, n_predicted, support = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return LabelScore(
        label=name,
        precision=right / n_predicted if n_predicted else None,
        recall=right / support if support else None,
        f1=f1_score(right, n_predicted, support),
        average_precision=_average_precision(probabilities, truth),
        support=support,
        threshold=threshold,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
