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
from headstart.heads.kinds import HEADS, MANY_LABELS, make_fitter
from headstart.heads.labelled_codes import LabelledCodes
from headstart.heads.logistic import Member, SoftmaxRegression
from headstart.heads.mixing import fit_shares
from headstart.numerics.intervals import one_of_each
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.progress import Progress
from headstart.selection.sample import sample

SEARCHED = 500  # images that the strength is chosen on, of more
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
    trials: every strength that was tried, the strongest first; of many images, on a sample of them. is_balanced: whether
    every class counts the same, in the fit and in the trials. members: of a mean of heads, with their shares.
    """

    head: Head
    kind: str
    strength: float
    held_out: np.ndarray
    fold: np.ndarray
    logits: np.ndarray
    trials: tuple[Trial, ...]
    is_balanced: bool = False
    members: tuple[Member, ...] = ()

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
    algebra may use. Five folds are held out in turn; of 10,000 different photos or more, one, but with balance only where
    that holds enough of each class; or the validation split of the data. Of more than SEARCHED images the strength is chosen
    on so many, and scaled: the best one falls with the root of their number. Of several views of an image, the first is
    judged. Raises HeadstartError for a kind that does not fit the labels.
    """
    if balance and data.labels.ndim == 2:
        raise HeadstartError("several labels an image cannot be balanced: each is learnt, and told, by itself")
    if data.labels.ndim == 2 and kind not in MANY_LABELS:
        raise HeadstartError(f"several labels an image are told by the heads {' and '.join(MANY_LABELS)}, not by {kind}")
    with blas_threads(threads, data.codes.size):
        return _choose_head(data, kind, balance, progress)


def _choose_head(data: LabelledCodes, kind: str, balance: bool, progress: Progress) -> Choice:
    progress("head", 0, 0)
    searched = data
    if len(data) > SEARCHED and HEADS[kind].is_weaker_for_more:
        searched = data.of(sample(data.groups, data.labels, data.n_classes, most=SEARCHED, balance=balance))
    problem = _Problem(searched, kind, balance, progress)
    best = problem.search()
    trials = problem.trials()
    strength, solutions = HEADS[kind].strengths[best], problem.solutions.get(best)
    if searched is not data:
        strength *= float(np.sqrt(len(searched) / len(data)))
        problem, solutions = _Problem(data, kind, balance, progress, n_fits=problem.n_fits), None
    if problem.folds and solutions is None:
        solutions = problem.fit_folds(strength)
    fitter = problem.fitter
    if isinstance(fitter, SoftmaxRegression) and len(fitter.members) > 1 and solutions:
        scores = problem.held_out(fitter.scores_of_members, solutions)
        shares = fit_shares(scores, data.labels[problem.held_out_rows], problem.counts, fitter.output)
        fitter.members = tuple(m._replace(share=float(share)) for m, share in zip(fitter.members, shares, strict=True))
    solution = problem.fit_last(strength, _start_of(solutions))
    logits = np.zeros((0, data.n_classes), np.float32)
    if solutions:
        logits = problem.held_out(fitter.logits, solutions)
    return Choice(
        fitter.head(solution),
        kind,
        strength,
        problem.held_out_rows,
        problem.number_of_fold,
        logits,
        trials,
        balance,
        fitter.members if isinstance(fitter, SoftmaxRegression) else (),
    )


def _start_of(solutions: list[Any] | None) -> Any:
    """Where the fit on all images starts: the mean of what was learnt without each fold, if that can be averaged."""
    if not solutions or not isinstance(solutions[0], tuple) or not all(isinstance(x, np.ndarray) for x in solutions[0]):
        return solutions[0] if solutions else None
    return tuple(np.mean(arrays, axis=0) for arrays in zip(*solutions, strict=True))


class _Problem:
    """A head to be chosen on labelled codes: its fitter, the folds, and what was tried.

    solutions: by the position of a strength, of each fold. n_fits: how many fits there have been, for the progress.
    """

    def __init__(self, data: LabelledCodes, kind: str, balance: bool, progress: Progress, *, n_fits: int = 0) -> None:
        self._data, self._kind, self._progress, self.n_fits = data, kind, progress, n_fits
        self._n_views = data.codes.shape[1] if data.codes.ndim == 3 else 1
        image_of_row = np.repeat(np.arange(len(data)), self._n_views)
        rows = data.codes.reshape(-1, data.codes.shape[-1])
        self.fitter = make_fitter(kind, rows, data.labels[image_of_row], data.n_classes, data.widths, data.members)
        self.weights = counted_weights(data.labels, is_balanced=balance)[image_of_row]
        self.folds = _folds_to_hold_out(data, balance)
        self._is_learnt = np.array([~f[image_of_row] for f in self.folds])
        self.held_out_rows = np.concatenate([np.flatnonzero(f) for f in self.folds]) if self.folds else np.arange(0)
        self.number_of_fold = np.repeat(np.arange(len(self.folds)), [int(f.sum()) for f in self.folds])
        self.counts = counted_weights(data.labels[self.held_out_rows], is_balanced=balance)
        self.solutions: dict[int, list[Any]] = {}
        self._results: dict[int, tuple[float, float]] = {}

    def search(self) -> int:
        """Find the strength of the lowest held-out cross entropy, by its position; where nothing is held out, the usual."""
        strengths = HEADS[self._kind].strengths
        best = begin_at(strengths, len(self._data))
        search = descend if HEADS[self._kind].is_walked else try_all
        return search(self._attempt, best, len(strengths)) if self.folds else best

    def trials(self) -> tuple[Trial, ...]:
        """What was tried, the strongest first."""
        strengths = HEADS[self._kind].strengths
        return tuple(Trial(strengths[i], ce, accuracy) for i, (ce, accuracy) in sorted(self._results.items()))

    def fit_folds(self, strength: float, starts: list[Any] | None = None) -> list[Any]:
        """Learn without each fold."""
        solutions = self.fitter.fit_folds(strength, self.weights * self._is_learnt, starts=starts)
        self.note_fit()
        return solutions

    def fit_last(self, strength: float, start: Any) -> Any:
        """Learn from all images, but for a validation split that is not to be learnt from."""
        weights, validation = self.weights, self._data.validation
        if validation is not None and not self._data.learns_from_validation:
            weights = weights * ~np.repeat(validation, self._n_views)
        solution = self.fitter.fit(strength, weights=weights, start=start)
        self.note_fit(is_last=True)
        return solution

    def held_out(self, scores_of: Callable[[Any, np.ndarray], np.ndarray], solutions: list[Any]) -> np.ndarray:
        """Scores (..., m, k) of the held-out images by the fits that have not seen them; of several views, of the first."""
        firsts = [np.flatnonzero(f) * self._n_views for f in self.folds]
        return np.concatenate([scores_of(s, rows) for rows, s in zip(firsts, solutions, strict=True)], axis=-2)

    def note_fit(self, *, is_last: bool = False) -> None:
        """Report that a fit, or those of all folds, are done."""
        self.n_fits += 1
        total = self.n_fits if is_last else max(self.n_fits + 1, _expected_fits(self._kind))
        self._progress("head", self.n_fits, total)

    def _attempt(self, i: int, neighbour: int | None) -> float:
        starts = None if neighbour is None else self.solutions[neighbour]
        self.solutions[i] = self.fit_folds(HEADS[self._kind].strengths[i], starts)
        logits, labels = self.held_out(self.fitter.logits, self.solutions[i]), self._data.labels[self.held_out_rows]
        cross_entropy = float(np.average(losses(logits, labels), weights=self.counts))
        self._results[i] = cross_entropy, float(np.average(is_right(logits, labels), weights=self.counts))
        return cross_entropy


def _folds_to_hold_out(data: LabelledCodes, balance: bool) -> list[np.ndarray]:
    """The folds that are held out in turn, (n,) booleans each: five, one, or none where there are too few images."""
    if data.validation is not None:
        held_out = _without_unlearnable(data.validation, data.labels, data.n_classes)
        return [held_out] if held_out.any() and not held_out.all() else []
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


def _expected_fits(kind: str) -> int:
    """How many fits there will probably be: most walks end after three strengths, and two more fits follow."""
    return 5 if HEADS[kind].is_walked else len(HEADS[kind].strengths) + 1


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
