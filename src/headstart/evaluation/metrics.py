"""How good a classifier is, and whether it is better than another, in numbers that say how far they can be trusted.

Arrays in, an Evaluation out; a MultiLabelEvaluation where an image may have several labels, a Comparison of two classifiers.
It decides from when on a difference counts, and above which probability a label is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.intervals import effective_size, group_numbers, share_interval, wilson_interval

TOP = 5
ALPHA = 0.05  # a difference counts where chance alone makes one as large less often than this
FEW_POSITIVES = 5  # images of a label, below which its own best threshold is mostly luck


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

    split: which images those are: `test`, or `cross-validation` where no test split could be had. n_different: how many of
    them are no copies of one another. interval: the 95 % Wilson interval of the accuracy, of as many photos as say as much
    together (intervals.effective_size). top5: None for fewer than ten classes, where it would say little. cross_entropy:
    mean, in nats. confusion: (k, k), rows are labels, columns predictions. balanced_accuracy: the mean recall of the classes
    that occur; balanced_interval: its 95 %.
    """

    split: str
    n_images: int
    n_different: int
    n_correct: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    cross_entropy: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float
    balanced_interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for run.json and --json."""
        return asdict(self)


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    split: str = "test",
    groups: Sequence[bytes] | None = None,
) -> Evaluation:
    """Compare (n, k) probabilities with (n,) labels; raises ValueError for n = 0, of which nothing can be said.

    groups: the same for images that are one photo (copies.Copies); None where no two are.
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
        f1=_f1(right, predicted, support),
        support=support,
    )


def _f1(right: int, predicted: int, support: int) -> float | None:
    return 2 * right / (predicted + support) if predicted + support else None


# ---- is one classifier better than another?


@dataclass(frozen=True)
class Comparison:
    """Two classifiers, a and b, on the same n images.

    only_a, only_b: images that one gets right and the other does not. difference: accuracy of a minus that of b. interval:
    its 95 %. p: McNemar's. verdict, on a: `better`, `worse` or `undecided`. sentence: all this in words.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p: float
    verdict: str
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for run.json and --json."""
        return asdict(self)


def is_better(
    a: np.ndarray,
    b: np.ndarray,
    *,
    groups: Sequence[bytes] | None = None,
    name_a: str = "the first",
    name_b: str = "the second",
) -> Comparison:
    """Judge whether a is better than b, from whether each got the same images right: (n,) booleans each.

    groups: the same for images that are one photo, None where no two are. Raises ValueError for n = 0, and for unequal
    lengths.
    """
    a, b = _paired(a, b)
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(a, b, groups)
    ahead_a, ahead_b = _ahead(a, b, groups)
    # A group of copies decides once: where it turns the count of images around, neither is shown to be better.
    is_one_way = (ahead_a > ahead_b) == (only_a > only_b)
    verdict = "undecided" if p >= ALPHA or not is_one_way else "better" if only_a > only_b else "worse"
    scale = effective_size(groups, n) / n
    interval = _paired_interval(scale * int((a & b).sum()), scale * only_a, scale * only_b, scale * n)
    words = _in_words(verdict, p, (float(a.mean()), float(b.mean())), interval, (only_a, only_b), (name_a, name_b), n)
    return Comparison(n, only_a, only_b, (only_a - only_b) / n, interval, p, verdict, words[0].upper() + words[1:])


def mcnemar(a: np.ndarray, b: np.ndarray, groups: Sequence[bytes] | None = None) -> float:
    """McNemar's exact two-sided p: how often chance alone shares out so unevenly the images that only one gets right.

    a, b: (n,) booleans. Of m such images the smaller share is binomial(m, 1/2), McNemar 1947; exact: Fagerland et al. 2013.
    groups: the same for images that are one photo; each group counts once, for whichever gets more of its images right.
    """
    a, b = _paired(a, b)
    ahead_a, ahead_b = _ahead(a, b, groups)
    m, least = ahead_a + ahead_b, min(ahead_a, ahead_b)
    # In logarithms: the binomial coefficients of some thousand images are no floats any more, and SciPy's sum costs 0.4 s to
    # import.
    i = np.arange(1, least + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((m + 1 - i) / i))])
    return min(1.0, 2 * float(np.exp(logs - logs[-1]).sum() * np.exp(logs[-1] - m * np.log(2))))


def _ahead(a: np.ndarray, b: np.ndarray, groups: Sequence[bytes] | None) -> tuple[int, int]:
    """Of how many groups of images a gets more right than b, and the other way round; None: every image is a group."""
    ahead = a.astype(np.int64) - b
    if groups is not None:
        ahead = np.bincount(group_numbers(groups), ahead)
    return int((ahead > 0).sum()), int((ahead < 0).sum())


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"two classifiers are compared on the same images, one at least; these are {a.shape} and {b.shape}")
    return a, b


def _paired_interval(both: float, only_a: float, only_b: float, n: float) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired shares: Newcombe 1998, Statistics in Medicine 17:2635, method 10."""
    right_a, right_b, neither = both + only_a, both + only_b, n - both - only_a - only_b
    share_a, share_b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n), wilson_interval(right_b, n)
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0)
    spread = right_a * (n - right_a) * right_b * (n - right_b)
    phi = product / spread**0.5 if spread else 0.0

    def half(x: float, y: float) -> float:
        return float(np.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0)))

    difference = (only_a - only_b) / n
    return difference - half(share_a - low_a, high_b - share_b), difference + half(high_a - share_a, share_b - low_b)


def _in_words(
    verdict: str,
    p: float,
    accuracies: tuple[float, float],
    interval: tuple[float, float],
    only: tuple[int, int],
    names: tuple[str, str],
    n: int,
) -> str:
    a, b = (f"{100 * x:.1f} %" for x in accuracies)
    low, high = (f"{100 * x:+z.1f}" for x in interval)
    if only == (0, 0):
        return (
            f"{names[0]} and {names[1]} get the same images right, {a} of {n:,}; on others their accuracies may differ by "
            f"{low} to {high} points (95 % interval)."
        )
    numbers = f"{a} against {b} on the same {n:,} images, a difference of {low} to {high} points (95 % interval)"
    chance = "less than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %" if p < 0.1 else f"{100 * p:.0f} %"
    if verdict == "undecided":
        by_chance = f"chance alone is as uneven {chance} of the time" if p < 0.995 else "no more uneven than chance makes it"
        return (
            f"it is not decided whether {names[0]} is better or worse than {names[1]}: {numbers}. Only {names[0]} gets "
            f"{only[0]:,} of them right, only {names[1]} {only[1]:,}: {by_chance}."
        )
    return f"{names[0]} is {verdict} than {names[1]}: {numbers}; chance alone makes such a difference {chance} of the time."


# ---- several labels an image


@dataclass(frozen=True)
class LabelScore:
    """One label's own numbers at its threshold; None where they are 0/0, average_precision where no image has the label."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    support: int
    threshold: float


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """What a classifier that gives any number of labels does on n images that it was not fitted on.

    mean_average_precision: over the labels that occur; it needs no thresholds. f1_micro: of all decisions together.
    f1_macro: mean over the labels whose F1 is not 0/0. accuracy: the share of images all of whose labels are told rightly
    and no other, n_correct of n_images, with its 95 % Wilson interval.
    """

    split: str
    n_images: int
    n_different: int
    n_correct: int
    accuracy: float
    interval: tuple[float, float]
    mean_average_precision: float | None
    f1_micro: float | None
    f1_macro: float | None
    classes: tuple[LabelScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for run.json and --json."""
        return asdict(self)


def evaluate_multilabel(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray,
    *,
    own: np.ndarray | None = None,
    split: str = "test",
    groups: Sequence[bytes] | None = None,
) -> MultiLabelEvaluation:
    """Compare (n, k) probabilities with (n, k) labels of 0 and 1, given from (k,) thresholds on; ValueError for n = 0.

    own: (n, k) thresholds that each image is judged by instead, where those were chosen on these very images
    (held_out_thresholds). groups: see evaluate.
    """
    n = len(probabilities)
    if n == 0:
        raise ValueError("there is no image to evaluate on")
    truth = np.asarray(labels) > 0
    given = probabilities >= (thresholds if own is None else own)
    n_correct = int((given == truth).all(axis=1).sum())
    scores = tuple(
        _label_score(name, probabilities[:, i], given[:, i], truth[:, i], float(thresholds[i]))
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
        f1_micro=_f1(int((given & truth).sum()), int(given.sum()), int(truth.sum())),
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
    own = np.full(probabilities.shape, 0.5, np.float32)
    for part in np.unique(parts):
        others = parts != part
        if others.any():
            own[~others] = best_thresholds(probabilities[others], labels[others])
    return own


def _best_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        return 0.5
    values, right, given = _from_highest(probabilities, truth)
    following = np.append(values[1:], 0.0)
    f1 = 2 * right / (given + truth.sum())
    middles = ((values + following) / 2)[f1 >= f1.max() - 1e-12]
    return float(middles[np.abs(middles - 0.5).argmin()])


def _from_highest(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each probability that occurs, from the highest on, and how many of the images from it on have the label, and are."""
    order = np.argsort(-probabilities, kind="stable")
    values = probabilities[order].astype(np.float64)
    is_last = np.append(values[1:] != values[:-1], True)
    return values[is_last], np.cumsum(truth[order])[is_last], np.arange(1, len(values) + 1)[is_last]


def _average_precision(probabilities: np.ndarray, truth: np.ndarray) -> float | None:
    """The precisions at each step of recall, weighted by the step, not interpolated: as scikit-learn defines it."""
    if not truth.any():
        return None
    _, right, given = _from_highest(probabilities, truth)
    return float((np.diff(right, prepend=0) / truth.sum()) @ (right / given))


def _label_score(name: str, probabilities: np.ndarray, given: np.ndarray, truth: np.ndarray, threshold: float) -> LabelScore:
    right, n_given, support = int((given & truth).sum()), int(given.sum()), int(truth.sum())
    return LabelScore(
        label=name,
        precision=right / n_given if n_given else None,
        recall=right / support if support else None,
        f1=_f1(right, n_given, support),
        average_precision=_average_precision(probabilities, truth),
        support=support,
        threshold=threshold,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
