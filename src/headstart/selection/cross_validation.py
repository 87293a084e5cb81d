"""Cross-validation: chooses the strength of a head's regularisation by its loss on images held out from the fit.

Takes the labelled codes of train and validation; gives the head and every trial. The test split never comes here. The other
choices (backbone, layers, views, kind of head) are the ladder's, which compares what this gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.splits import N_FOLDS, ONE_FOLD_FROM, content_folds
from headstart.engines.hardware import blas_threads
from headstart.errors import HeadstartError
from headstart.evaluation.multilabel import held_out_thresholds
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS, MANY_LABELS, Fitter
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import one_of_each
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.progress import Progress

TIE = 1e-3  # nats of held-out cross entropy that a weaker regularisation, or any less simple choice, must gain


@dataclass(frozen=True)
class Trial:
    """One strength of regularisation, and how its heads did on the images held out from them.

    cross_entropy, accuracy: means over images or, where the choice is balanced, over classes.
    """

    strength: float
    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """The head that was chosen, fitted on all the images, and why.

    kind: a key of HEADS; strength: of its regularisation. held_out: (m,) int64, the rows that were held out, fold by fold.
    fold: (m,) int64, the number of each one's fold. logits: (m, k) float32, scores by the fits that had not seen them.
    trials: every strength that was tried, the strongest first. is_balanced: whether every class counts the same, in the fit
    and in the trials.
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
        """Probabilities of the held-out images, (m, k) float32."""
        return self.head.output_of(self.logits)


def choose_head(
    data: LabelledCodes,
    *,
    kind: str = "softmax",
    balance: bool = False,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Choice:
    """Fit a head with the strength of regularisation that does best on held-out images.

    kind: a key of HEADS. balance: let every class count the same, where an image has one label. threads: cores that linear
    algebra may use. Five folds are held out in turn; of 2,500 different photos or more, one, but with balance only where
    that holds enough of each class. Of several views of an image, the first is judged. Raises HeadstartError for a kind that
    does not fit the labels.
    """
    if balance and data.labels.ndim == 2:
        raise HeadstartError("several labels an image cannot be balanced: each is learnt, and told, by itself")
    if data.labels.ndim == 2 and kind not in MANY_LABELS:
        raise HeadstartError(f"several labels an image are told by the heads {' and '.join(MANY_LABELS)}, not by {kind}")
    with blas_threads(threads, data.codes.size):
        return _choose_head(data, kind, balance, progress)


def _choose_head(data: LabelledCodes, kind: str, balance: bool, progress: Progress) -> Choice:
    progress("head", 0, 0)
    codes, labels = data.codes, data.labels
    n_views = codes.shape[1] if codes.ndim == 3 else 1
    rows, image_of_row = codes.reshape(-1, codes.shape[-1]), np.repeat(np.arange(len(labels)), n_views)
    problem: Fitter = HEADS[kind].fitter(rows, labels[image_of_row], data.n_classes, data.widths)
    weights = counted_weights(labels, is_balanced=balance)
    folds = _folds_to_hold_out(data, balance)
    held_out = np.concatenate([np.flatnonzero(f) for f in folds]) if folds else np.arange(0)
    counts = counted_weights(labels[held_out], is_balanced=balance)
    strengths = HEADS[kind].strengths
    results: dict[int, tuple[float, np.ndarray, list[Any]]] = {}

    def attempt(i: int, neighbour: int | None) -> float:
        starts = [None] * len(folds) if neighbour is None else results[neighbour][2]
        solutions: list[Any] = []
        for f, s in zip(folds, starts, strict=True):
            n_fits = _expected_strengths(kind, len(results) + 1) * len(folds) + 1
            progress("head", len(results) * len(folds) + len(solutions), n_fits)
            solutions.append(problem.fit(strengths[i], weights=(weights * ~f)[image_of_row], start=s))
        firsts = [np.flatnonzero(f) * n_views for f in folds]
        logits = np.concatenate([problem.logits(s, rows) for rows, s in zip(firsts, solutions, strict=True)])
        results[i] = float(np.average(losses(logits, labels[held_out]), weights=counts)), logits, solutions
        return results[i][0]

    best = begin_at(strengths, len(labels))
    if folds:
        search = descend if HEADS[kind].is_walked else try_all
        best = search(attempt, best, len(strengths))
    start = results[best][2][0] if results else None
    n_fits = len(results) * len(folds) + 1
    progress("head", n_fits - 1, n_fits)
    solution = problem.fit(strengths[best], weights=weights[image_of_row], start=start, tolerance=1e-4)
    progress("head", n_fits, n_fits)
    trials = tuple(
        Trial(strengths[i], ce, float(np.average(is_right(z, labels[held_out]), weights=counts)))
        for i, (ce, z, _) in sorted(results.items())
    )
    logits = results[best][1] if results else np.zeros((0, data.n_classes), np.float32)
    number_of_fold = np.repeat(np.arange(len(folds)), [int(f.sum()) for f in folds])
    return Choice(problem.head(solution), kind, strengths[best], held_out, number_of_fold, logits, trials, balance)


def _folds_to_hold_out(data: LabelledCodes, balance: bool) -> list[np.ndarray]:
    """The folds that are held out in turn, (n,) booleans each: five, one, or none where there are too few images."""
    fold = content_folds(data.groups, data.labels)
    n_folds = 1 if _is_one_fold_enough(fold, data, balance) else N_FOLDS
    folds = [_without_unlearnable(fold == i, data.labels, data.n_classes) for i in range(n_folds)]
    return [held_out for held_out in folds if held_out.any() and not held_out.all()]


def _is_one_fold_enough(fold: np.ndarray, data: LabelledCodes, balance: bool) -> bool:
    """Whether the first fold alone tells well enough which head is better; copies of a photo count once.

    With balance, the rarest classes decide: the fold must be as good as one of ONE_FOLD_FROM images in classes of equal size
    (Kish 1965), and hold some of every class that can be held out, that is in two folds or more.
    """
    if len(data) < ONE_FOLD_FROM:
        return False
    photos = one_of_each(data.groups)
    fold, labels = fold[photos], data.labels[photos]
    if not balance or len(labels) < ONE_FOLD_FROM:
        return len(labels) >= ONE_FOLD_FROM
    is_in = np.zeros((data.n_classes, N_FOLDS), bool)
    is_in[labels, fold] = True
    n_held_out = np.bincount(labels[fold == 0], minlength=data.n_classes)[is_in.sum(axis=1) > 1]
    return bool(n_held_out.all() and len(n_held_out) ** 2 / (1 / n_held_out).sum() >= ONE_FOLD_FROM / N_FOLDS)


def _expected_strengths(kind: str, n: int) -> int:
    """The number of strengths that a search will probably try when it tries its n-th: most walks end after three."""
    n_strengths = len(HEADS[kind].strengths)
    return min(max(n, 3), n_strengths) if HEADS[kind].is_walked else n_strengths


def _without_unlearnable(held_out: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """A fold without the images whose class no other fold has: a fit cannot predict a class that it has not learnt."""
    if labels.ndim == 2:
        return held_out
    return held_out & (np.bincount(labels[~held_out], minlength=n_classes) > 0)[labels]


def begin_at(strengths: Sequence[float], n: int) -> int:
    """Where a search starts: an l2 of 0.03 to 0.3 was best for some hundred images, 0.003 for 50,000 (docs/LOG.md)."""
    return int(np.argmin(np.abs(np.log(strengths) - np.log(0.06 * np.sqrt(400 / max(n, 1))))))


def descend(attempt: Callable[[int, int | None], float], start: int, n: int) -> int:
    """Walk along n strengths from `start`, stronger first, while the held-out cross entropy falls; gives the best one.

    attempt: takes a strength and the one that the walk comes from, None at the start; gives the cross entropy.
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
    """Try every strength: for heads whose cross entropy has more than one minimum along them. Arguments as in descend."""
    values = [attempt(i, None) for i in range(n)]
    best = 0
    for i, value in enumerate(values):
        if value < values[best] - TIE:
            best = i
    return best


def cross_fitted_thresholds(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[bytes] | Sequence[int]
) -> np.ndarray:
    """Choose each image's thresholds on the four folds that it is not in, where an image has several labels.

    probabilities, labels: (n, k), held out. groups: the same for copies of a photo. Gives (n, k) float32.
    """
    return held_out_thresholds(probabilities, labels, content_folds(groups, labels))
