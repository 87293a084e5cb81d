"""Conformal prediction: sets of classes that contain the right one at a chosen coverage, as 95 % of the time.

Takes held-out probabilities and labels; gives, for any coverage, the set of classes for each image. The promise needs
nothing but that new photos come as the held-out ones did: it is about photos of these classes, taken like these. Balanced,
it is the mean over the classes, and needs only that the photos of each class come as its held-out ones did. It decides how
many nonconformity scores a classifier stores for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST_SCORES = 1_000  # of the held-out scores, evenly spread, rounded to the safe side
ROUNDING = 1e-5


def _smallest(probabilities: np.ndarray) -> np.ndarray:
    """1 - p: the smallest sets on average (Sadinle, Lei, Wasserman 2019, least ambiguous sets)."""
    return 1 - probabilities


def _adaptive(probabilities: np.ndarray) -> np.ndarray:
    """The probability of all likelier classes: sets grow where the classifier is unsure, so that hard photos are covered
    about as often as easy ones (Romano, Sesia, Candès 2020, whose random part is left out, and with it the class's own)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.cumsum(ordered, axis=1) - ordered, axis=1)
    return scores


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"smallest": _smallest, "adaptive": _adaptive}
"""Nonconformity scores, how ill each class fits each image: (n, k) probabilities to (n, k)."""


def held_out_scores(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[bytes] | None = None, *, is_balanced: bool = False
) -> dict[str, Any]:
    """The nonconformity scores of the right classes, ascending, for each row of SCORES: of (n, k) and (n,), n > 0.

    groups: the same for copies of a photo: each group counts once, by its highest score, for it is groups that come by
    chance. Gives `n`, how many there are, and at most MOST_SCORES scores for each way. is_balanced: every class
    counts as much as the rarest, so that `n` is that one's groups times the classes: conformal prediction under label shift
    (Podkopaev & Ramdas 2021), each new image with the weight of the rarest class, which errs on the safe side.
    """
    numbers: dict[Any, int] = {}
    of_group = np.array([numbers.setdefault(group, len(numbers)) for group in groups or range(len(labels))], np.int64)
    weights = np.ones(len(numbers))
    if is_balanced:
        of_label = np.zeros(len(numbers), np.int64)
        of_label[of_group] = labels
        n_of_label = np.bincount(of_label)
        weights = n_of_label[n_of_label > 0].min() / n_of_label[of_label]
    scores: dict[str, Any] = {"n": round(float(weights.sum())), "is_balanced": is_balanced}
    n = min(MOST_SCORES, scores["n"])
    ranks = np.ceil(np.arange(1, n + 1) * scores["n"] / n).astype(np.int64)
    for name, score_of in SCORES.items():
        of_image = np.take_along_axis(score_of(probabilities.astype(np.float64)), labels[:, None], axis=1)[:, 0]
        highest = np.zeros(len(numbers))
        np.maximum.at(highest, of_group, of_image)
        order = np.argsort(highest, kind="stable")
        positions = np.searchsorted(np.cumsum(weights[order]), ranks - 1e-6)
        scores[name] = [float(np.ceil(s / ROUNDING) * ROUNDING) for s in highest[order][positions]]
    return scores


def score_threshold(scores: Sequence[float], n: int, coverage: float) -> float:
    """The score up to which a class belongs to the set: the ceil((n + 1) · coverage)-th of n held-out ones (Vovk et al.
    2005).

    scores: of n images, as held_out_scores gives them. Infinite, so that every class belongs to it, where n is too small for
    so much coverage.
    """
    rank = int(np.ceil((n + 1) * coverage - 1e-9))
    if rank > n:
        return float("inf")
    return scores[int(np.ceil(rank * len(scores) / n - 1e-9)) - 1]


def prediction_sets(probabilities: np.ndarray, threshold: float, way: str = "smallest") -> np.ndarray:
    """(n, k) probabilities to (n, k) booleans; the likeliest class always belongs to the set."""
    is_in = SCORES[way](probabilities.astype(np.float64)) <= threshold
    is_in[np.arange(len(is_in)), probabilities.argmax(axis=1)] = True
    return is_in
