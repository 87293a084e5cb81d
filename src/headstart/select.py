"""Choices, each made on images that were held out from the fit that is judged.

Takes the codes and labels of train and validation; gives the head, and what was tried on the way. The test split never
comes here. It decides the strength of regularisation; ladder.py decides the rest by what this gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.evaluate import held_out_thresholds
from headstart.head import Head, balanced_weights, is_right, losses
from headstart.heads import HEADS, Fitter

MANY_LABELS = ("sigmoid", "hidden")  # the heads that tell several labels an image
N_FOLDS = 5
FEW_NUMBERS = 4_000_000  # codes x images, below which one core learns the head
MANY_IMAGES = 2_500  # from here on one fold is held out: its standard error is small enough to choose by
TIE = 1e-3  # nats of held-out cross entropy that a weaker regularisation, or any less simple choice, must gain


@dataclass(frozen=True)
class Trial:
    """One strength of regularisation and how its heads did on the images that were held out from them."""

    strength: float
    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """The head that was chosen, fitted on all the images, and why.

    kind: of heads.HEADS; strength: of its regularisation. held_out: (m,) int64, the rows that were held out in turn. fold:
    (m,) int64, in which turn. logits: (m, k) float32, what the fits that had not seen them gave. trials: all that was tried,
    strongest regularisation first.
    """

    head: Head
    kind: str
    strength: float
    held_out: np.ndarray
    fold: np.ndarray
    logits: np.ndarray
    trials: tuple[Trial, ...]

    @property
    def probabilities(self) -> np.ndarray:
        """(m, k) float32, of the images that were held out."""
        return self.head.output_of(self.logits)


def choose_head(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    *,
    kind: str = "softmax",
    parts: Sequence[int] = (),
    balance: bool = False,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Choice:
    """Fit a head with the regularisation that does best on held-out images.

    codes: (n, d), or (n, v, d) with other views of each image beside the one that is judged, which comes first. labels: (n,)
    positions of classes, or (n, k) of 0 and 1. digests: each image's sha256; byte-identical images share a fold. kind: a row
    of heads.HEADS. parts: how many of the d codes are of each depth. balance: let every class count the same. threads: cores
    that linear algebra may use. Five folds are held out in turn; of 2,500 images or more, one.
    """
    if labels.ndim == 2 and kind not in MANY_LABELS:
        raise HeadstartError(f"several labels an image are told by the heads {' and '.join(MANY_LABELS)}, not by {kind}")
    with blas_threads(threads, codes.size):
        return _choose_head(codes, labels, n_classes, digests, kind, parts, balance, progress)


def _choose_head(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    kind: str,
    parts: Sequence[int],
    balance: bool,
    progress: Callable[[str, int, int], None],
) -> Choice:
    n_views = codes.shape[1] if codes.ndim == 3 else 1
    rows, of_row = codes.reshape(-1, codes.shape[-1]), np.repeat(np.arange(len(labels)), n_views)
    problem: Fitter = HEADS[kind].fitter(rows, labels[of_row], n_classes, parts)
    is_balanced = balance and labels.ndim == 1
    weights = balanced_weights(labels, n_classes) if is_balanced else np.ones(len(labels), np.float32)
    fold = content_folds(digests, labels, N_FOLDS)
    folds = [fold == i for i in range(1 if len(labels) >= MANY_IMAGES else N_FOLDS)]
    folds = [_of_known_classes(held_out, labels, n_classes) for held_out in folds]
    folds = [held_out for held_out in folds if held_out.any() and not held_out.all()]
    held_out = np.concatenate([np.flatnonzero(f) for f in folds]) if folds else np.arange(0)
    turn = np.repeat(np.arange(len(folds)), [int(f.sum()) for f in folds])
    strengths = HEADS[kind].strengths
    tried: dict[int, tuple[float, np.ndarray, list[Any]]] = {}

    def attempt(i: int, near: int | None) -> float:
        starts = [None] * len(folds) if near is None else tried[near][2]
        solutions = [
            problem.fit(strengths[i], weights=(weights * ~f)[of_row], start=s) for f, s in zip(folds, starts, strict=True)
        ]
        firsts = [np.flatnonzero(f) * n_views for f in folds]
        logits = np.concatenate([problem.logits(s, rows) for rows, s in zip(firsts, solutions, strict=True)])
        tried[i] = float(np.average(losses(logits, labels[held_out]), weights=weights[held_out])), logits, solutions
        progress("head", len(tried), 0)
        return tried[i][0]

    start = begin_at(strengths, len(labels))
    best = descend(attempt, start, len(strengths)) if folds else start
    warm = tried[best][2][0] if tried else None
    solution = problem.fit(strengths[best], weights=weights[of_row], start=warm, tolerance=1e-4)
    trials = tuple(
        Trial(strengths[i], ce, float(is_right(z, labels[held_out]).mean())) for i, (ce, z, _) in sorted(tried.items())
    )
    logits = tried[best][1] if tried else np.zeros((0, n_classes), np.float32)
    return Choice(problem.head(solution), kind, strengths[best], held_out, turn, logits, trials)


def _of_known_classes(held_out: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Of a fold, the images whose class the others have, too: nothing can be said of a class that nobody has learnt."""
    if labels.ndim == 2:
        return held_out
    return held_out & (np.bincount(labels[~held_out], minlength=n_classes) > 0)[labels]


def blas_threads(threads: int | None, n_numbers: int) -> AbstractContextManager[Any]:
    """Hold NumPy's linear algebra to the cores that we may use: by itself it does not know of cgroup limits.

    Small problems get one core. Its threads wait for each other actively, so where another program has a core they lose far
    more than they can gain: 1,457 x 1,280 codes took 1.1 s on two quiet cores and 20 to 40 s on two busy ones; on one core,
    1.9 s busy.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if n_numbers < FEW_NUMBERS else threads, user_api="blas")  # type: ignore[no-any-return]


def begin_at(strengths: Sequence[float], n: int) -> int:
    """Where to begin looking: an l2 of 0.03 to 0.3 was best for some hundred images, 0.003 for 50,000 (docs/LOG.md)."""
    return int(np.argmin(np.abs(np.log(strengths) - np.log(0.06 * np.sqrt(400 / max(n, 1))))))


def descend(attempt: Callable[[int, int | None], float], start: int, n: int) -> int:
    """Walk along n strengths from `start`, stronger first, while the held-out cross entropy falls.

    attempt: gives that of a strength; told as well from which one the walk came, None at the start.
    """
    best, lowest = start, attempt(start, None)
    for step in (-1, 1):
        at = best
        while 0 <= at + step < n:
            value = attempt(at + step, at)
            at += step
            # Stronger wins ties, weaker has to be better.
            if value > lowest - step * TIE:
                break
            best, lowest = at, min(value, lowest)
        if best != start:
            break
    return best


def content_folds(digests: Sequence[bytes] | Sequence[int], labels: np.ndarray, n_folds: int) -> np.ndarray:
    """Deal each class's images into folds in the order of their hashes: stratified, and the same however they are named.

    labels: (n,), or (n, k) of 0 and 1, of which every combination that occurs is dealt by itself.
    """
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    fold = np.zeros(len(labels), np.int64)
    of_image: dict[bytes | int, int] = {}
    # Each class begins at another fold, or the first ones would get what is left over of all of them.
    dealt = np.arange(int(labels.max(initial=0)) + 1)
    for i in sorted(range(len(labels)), key=lambda i: (labels[i], digests[i])):
        if digests[i] not in of_image:
            of_image[digests[i]] = int(dealt[labels[i]]) % n_folds
            dealt[labels[i]] += 1
        fold[i] = of_image[digests[i]]
    return fold


def cross_fitted_thresholds(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[bytes] | Sequence[int]
) -> np.ndarray:
    """Of several labels an image: each image's thresholds are chosen on the four fifths that it is not among.

    probabilities, labels: (n, k), held out. groups: the same for images that are one photo. Gives (n, k) float32.
    """
    return held_out_thresholds(probabilities, labels, content_folds(groups, labels, N_FOLDS))
