"""Choices, each made on images that were held out from the fit that is judged.

Takes the codes and labels of train and validation; gives the head, and what was tried on the way. The test split never
comes here. It decides the strength of regularisation; ladder.py decides the rest by what this gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.splits import content_folds
from headstart.engines.hardware import blas_threads
from headstart.errors import HeadstartError
from headstart.evaluation.multilabel import held_out_thresholds
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS, Fitter
from headstart.numerics.intervals import one_of_each
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.progress import Progress

MANY_LABELS = ("sigmoid", "hidden")  # the heads that tell several labels an image
N_FOLDS = 5
MANY_IMAGES = 2_500  # from here on one fold is held out: its standard error is small enough to choose by
TIE = 1e-3  # nats of held-out cross entropy that a weaker regularisation, or any less simple choice, must gain


@dataclass(frozen=True)
class Trial:
    """One strength of regularisation and how its heads did on the images that were held out from them, or on their classes
    alike where the choice is balanced."""

    strength: float
    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """The head that was chosen, fitted on all the images, and why.

    kind: of heads.HEADS; strength: of its regularisation. held_out: (m,) int64, the rows that were held out in turn. fold:
    (m,) int64, in which turn. logits: (m, k) float32, what the fits that had not seen them gave. trials: all that was tried,
    strongest regularisation first. is_balanced: whether every class counts the same, in the fit and in what is told of it.
    """

    head: Head
    kind: str
    strength: float
    held_out: np.ndarray
    fold: np.ndarray
    logits: np.ndarray
    trials: tuple[Trial, ...]
    is_balanced: bool = False

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
    widths: Sequence[int] = (),
    balance: bool = False,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Choice:
    """Fit a head with the regularisation that does best on held-out images.

    codes: (n, d), or (n, v, d) with other views of each image beside the one that is judged, which comes first. labels: (n,)
    positions of classes, or (n, k) of 0 and 1. digests: the same for images that are one photo (copies.Copies), which share
    a fold. kind: a row of heads.HEADS. widths: how many of the d codes each layer has. balance: let every class count the
    same, where an image has one label. threads: cores that linear algebra may use. Five folds are held out in turn; of 2,500
    different photos or more, one, but with balance only where that holds enough of each class.
    """
    if balance and labels.ndim == 2:
        raise HeadstartError("several labels an image cannot be balanced: each is learnt, and told, by itself")
    if labels.ndim == 2 and kind not in MANY_LABELS:
        raise HeadstartError(f"several labels an image are told by the heads {' and '.join(MANY_LABELS)}, not by {kind}")
    with blas_threads(threads, codes.size):
        return _choose_head(codes, labels, n_classes, digests, kind, widths, balance, progress)


def _choose_head(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    kind: str,
    widths: Sequence[int],
    balance: bool,
    progress: Progress,
) -> Choice:
    progress("head", 0, 0)
    n_views = codes.shape[1] if codes.ndim == 3 else 1
    rows, of_row = codes.reshape(-1, codes.shape[-1]), np.repeat(np.arange(len(labels)), n_views)
    problem: Fitter = HEADS[kind].fitter(rows, labels[of_row], n_classes, widths)
    weights = counted_weights(labels, is_balanced=balance)
    fold = content_folds(digests, labels, N_FOLDS)
    folds = [fold == i for i in range(1 if _one_is_enough(fold, labels, digests, n_classes, balance) else N_FOLDS)]
    folds = [_of_known_classes(held_out, labels, n_classes) for held_out in folds]
    folds = [held_out for held_out in folds if held_out.any() and not held_out.all()]
    held_out = np.concatenate([np.flatnonzero(f) for f in folds]) if folds else np.arange(0)
    counts = counted_weights(labels[held_out], is_balanced=balance)
    turn = np.repeat(np.arange(len(folds)), [int(f.sum()) for f in folds])
    strengths = HEADS[kind].strengths
    tried: dict[int, tuple[float, np.ndarray, list[Any]]] = {}

    def attempt(i: int, near: int | None) -> float:
        starts = [None] * len(folds) if near is None else tried[near][2]
        solutions: list[Any] = []
        for f, s in zip(folds, starts, strict=True):
            progress("head", len(tried) * len(folds) + len(solutions), _n_tried(kind, len(tried) + 1) * len(folds) + 1)
            solutions.append(problem.fit(strengths[i], weights=(weights * ~f)[of_row], start=s))
        firsts = [np.flatnonzero(f) * n_views for f in folds]
        logits = np.concatenate([problem.logits(s, rows) for rows, s in zip(firsts, solutions, strict=True)])
        tried[i] = float(np.average(losses(logits, labels[held_out]), weights=counts)), logits, solutions
        return tried[i][0]

    best = begin_at(strengths, len(labels))
    if folds:
        find = descend if HEADS[kind].is_walked else try_all
        best = find(attempt, best, len(strengths))
    warm = tried[best][2][0] if tried else None
    n_fits = len(tried) * len(folds) + 1
    progress("head", n_fits - 1, n_fits)
    solution = problem.fit(strengths[best], weights=weights[of_row], start=warm, tolerance=1e-4)
    progress("head", n_fits, n_fits)
    trials = tuple(
        Trial(strengths[i], ce, float(np.average(is_right(z, labels[held_out]), weights=counts)))
        for i, (ce, z, _) in sorted(tried.items())
    )
    logits = tried[best][1] if tried else np.zeros((0, n_classes), np.float32)
    return Choice(problem.head(solution), kind, strengths[best], held_out, turn, logits, trials, balance)


def _one_is_enough(fold: np.ndarray, labels: np.ndarray, digests: Sequence[bytes], n_classes: int, balance: bool) -> bool:
    """Whether the first fold alone tells well enough which head is better; copies of a photo count once.

    With balance, the rarest classes say how well: the fold must be as good as one of MANY_IMAGES in classes of equal size
    (Kish 1965), and hold some of every class that can be held out, that is in two folds or more.
    """
    if len(labels) < MANY_IMAGES:
        return False
    ones = one_of_each(digests)
    fold, labels = fold[ones], labels[ones]
    if not balance or len(labels) < MANY_IMAGES:
        return len(labels) >= MANY_IMAGES
    is_in = np.zeros((n_classes, N_FOLDS), bool)
    is_in[labels, fold] = True
    n_held_out = np.bincount(labels[fold == 0], minlength=n_classes)[is_in.sum(axis=1) > 1]
    return bool(n_held_out.all() and len(n_held_out) ** 2 / (1 / n_held_out).sum() >= MANY_IMAGES / N_FOLDS)


def _n_tried(kind: str, n: int) -> int:
    """How many strengths a choice that is about to try its n-th one will probably try: most walks end after three."""
    n_strengths = len(HEADS[kind].strengths)
    return min(max(n, 3), n_strengths) if HEADS[kind].is_walked else n_strengths


def _of_known_classes(held_out: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Of a fold, the images whose class the others have, too: nothing can be said of a class that nobody has learnt."""
    if labels.ndim == 2:
        return held_out
    return held_out & (np.bincount(labels[~held_out], minlength=n_classes) > 0)[labels]


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


def try_all(attempt: Callable[[int, int | None], float], _: int, n: int) -> int:
    """As descend, but try every strength, for where the cross entropy may fall more than once."""
    values = [attempt(i, None) for i in range(n)]
    best = 0
    for i, value in enumerate(values):
        if value < values[best] - TIE:
            best = i
    return best


def cross_fitted_thresholds(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[bytes] | Sequence[int]
) -> np.ndarray:
    """Of several labels an image: each image's thresholds are chosen on the four fifths that it is not among.

    probabilities, labels: (n, k), held out. groups: the same for images that are one photo. Gives (n, k) float32.
    """
    return held_out_thresholds(probabilities, labels, content_folds(groups, labels, N_FOLDS))
