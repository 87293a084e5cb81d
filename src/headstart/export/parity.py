"""Parity: whether an exported file answers as the original does, on photos that are labelled; it alone decides failure.

Takes the answers of both, (n, k) probabilities and (n,) unfamiliarity; gives a Parity, which says it in numbers and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.export.original import JudgingPhotos, Outputs
from headstart.numerics.intervals import wilson_interval
from headstart.wording import counted, percent

HIGH = 0.99  # the quantile that is told beside the largest difference
MOST_NAMED = 20  # photos that are named where labels differ


@dataclass(frozen=True)
class Accuracy:
    """How many of n photos were labelled rightly, with the 95 % interval."""

    n_correct: int
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """How far apart the numbers of two classifiers are: the largest difference of all photos, and its 99th percentile."""

    largest: float
    high: float


@dataclass(frozen=True)
class Parity:
    """How an exported classifier answers, beside the original, on n photos.

    n_same: photos with the same label. probability: over classes, the largest of each photo. unfamiliarity: None where the
    file does not tell it. accuracies: of the original and the export, on the photos that no fit has seen. differing: names
    of photos whose label differs, with both labels.
    """

    n: int
    n_same: int
    probability: Difference
    unfamiliarity: Difference | None
    accuracies: tuple[Accuracy, Accuracy] | None
    differing: tuple[tuple[str, str, str], ...]
    photos: str

    @property
    def same(self) -> float:
        """The share of photos with the same label."""
        return self.n_same / self.n

    def to_json(self) -> dict[str, Any]:
        """For parity.json."""
        names = ("original", "export")
        return {
            "photos": self.photos,
            "n": self.n,
            "same_label": self.n_same,
            "same_share": self.same,
            "probability": vars(self.probability),
            "unfamiliarity": None if self.unfamiliarity is None else vars(self.unfamiliarity),
            "accuracy": dict(zip(names, map(vars, self.accuracies), strict=True)) if self.accuracies else None,
            "differing": [dict(zip(("path", *names), row, strict=True)) for row in self.differing],
        }

    def sentence(self) -> str:
        """What it came to, in words."""
        apart = f"probabilities differ by {self.probability.largest:.4f} at most"
        return f"the same label for {self.n_same:,} of {counted(self.n, 'photo')} ({percent(self.same)}); {apart}"


def compare(
    photos: JudgingPhotos, original: Outputs, export: Outputs, classes: Sequence[str], thresholds: np.ndarray | None
) -> Parity:
    """Compare the answers for the same photos; thresholds: of several labels a photo.

    The labels of an export may be told by other thresholds than the original's: see `labels_of`.
    """
    p, q = original["probabilities"], export["probabilities"]
    ours, theirs = labels_of(p, thresholds), labels_of(q, thresholds)
    is_same = (ours == theirs).reshape(len(p), -1).all(axis=1)
    unfamiliarity = None
    if "unfamiliarity" in original and "unfamiliarity" in export:
        unfamiliarity = _difference(np.abs(original["unfamiliarity"] - export["unfamiliarity"]).ravel())
    accuracies = (_accuracy(ours, photos), _accuracy(theirs, photos)) if photos.is_tested.any() else None
    differing = [
        (photos.names[i], _words(ours[i], classes), _words(theirs[i], classes)) for i in np.flatnonzero(~is_same).tolist()
    ]
    return Parity(
        len(p),
        int(is_same.sum()),
        _difference(np.abs(p - q).max(axis=1)),
        unfamiliarity,
        accuracies,
        tuple(differing),
        photos.about,
    )


def labels_of(probabilities: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """The labels that probabilities mean: (n,) positions of classes or, with thresholds, (n, k) bool."""
    return probabilities.argmax(axis=1) if thresholds is None else probabilities >= thresholds


def _difference(values: np.ndarray) -> Difference:
    if not np.isfinite(values).all():
        return Difference(float("inf"), float("inf"))
    return Difference(float(values.max(initial=0)), float(np.quantile(values, HIGH)))


def _accuracy(answers: np.ndarray, photos: JudgingPhotos) -> Accuracy:
    answers, truth = answers[photos.is_tested], photos.labels[photos.is_tested]
    truth = truth > 0 if answers.ndim == 2 else truth
    n_correct = int((answers == truth).reshape(len(truth), -1).all(axis=1).sum())
    return Accuracy(n_correct, n_correct / len(truth), wilson_interval(n_correct, len(truth)))


def _words(answer: np.ndarray, classes: Sequence[str]) -> str:
    if answer.ndim:
        return "|".join(name for name, applies in zip(classes, answer, strict=True) if applies)
    return classes[int(answer)]
