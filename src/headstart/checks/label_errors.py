"""Finds label errors by confident learning on out-of-fold probabilities (Northcutt, Jiang, Chuang: JAIR 70, 2021).

Takes codes, labels and the groups of copies; gives out-of-fold probabilities, and from those a quality of each label. It
decides which heads give the probabilities, how labels are ranked, and which are flagged; the choices were measured by
swapping labels (benchmarks/label_errors.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.labels import are_many
from headstart.data.splits import N_FOLDS, content_folds
from headstart.engines.hardware import blas_threads
from headstart.heads.kinds import HEADS, Fitter
from headstart.numerics.losses import OUTPUTS, losses
from headstart.progress import Progress
from headstart.selection.cross_validation import begin_at, descend
from headstart.trust.calibration import best_temperature

MAX_WORK = 3e9  # images x codes x classes of softmax regression; above, a pass takes seconds, and class means have to do
TRIAL_FOLD_FROM = 2_500  # images from which on one fold chooses the strength
N_NEIGHBOURS = 15
VOTE_SHARPNESS = 10.0  # a neighbour's vote is exp(VOTE_SHARPNESS x cosine)
PRIOR_VOTES = 0.25  # of all votes: spread over all classes, so that none is impossible
MAX_REFERENCE = 5_000  # images that neighbours are looked for among; with more, softmax regression ranks as well by itself
MAX_QUALITY = 0.2  # of a flagged label: another class is at least four times as likely
MAX_DISAGREEMENT = 0.2  # share of labels that the fits disagree with; above, most of that are the fits' own errors
MAX_CALIBRATED_QUALITY = 0.02  # of a flagged label then: 52 of 3,670 clean images of CIFAR-10 are flagged, not 176
MAX_RISK = 0.007  # of a certain suggestion: 37 of 37 were right where it was chosen, 54 of 56 elsewhere
MIN_IMAGES = 20  # with fewer, nothing is flagged: five photos with random labels disagree as well
EPSILON = 1e-12  # probabilities and lengths are no smaller in divisions and logarithms


@dataclass(frozen=True)
class LabelErrors:
    """The quality of n labels, (n,); of several labels a photo, of each label by itself, (n, k).

    quality: float32 in [0, 1], low where a label is probably wrong; from 0.5 on the fits agree with it. is_flagged: bool,
    the labels that are probably wrong. suggested: the labels instead, (n,) int64, or (n, k) uint8 of 0 and 1. is_certain:
    bool, the flagged labels whose suggestion is as good as certain; none with several labels a photo.
    """

    quality: np.ndarray
    is_flagged: np.ndarray
    suggested: np.ndarray
    is_certain: np.ndarray


def out_of_fold(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    *,
    widths: Sequence[int] = (),
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> np.ndarray:
    """Compute out-of-fold probabilities, (n, k) float32: each photo's from fits without its fold, five folds in turn.

    codes: (n, d) of any float type. labels: (n,) positions of classes, or (n, k) of 0 and 1. digests: photos of the same
    digest are always in the same fold (see copies.find_copies). widths: how many of the codes are of each layer. threads:
    cores that linear algebra may use. The probabilities are the mean of a head's and of the nearest photos' votes, in two
    rounds: the second does not learn from clear label errors. With more than MAX_REFERENCE photos there is one round, and
    neighbours vote only on the photos of low quality; with very many classes the head is class means. The strength is
    chosen once. A photo that no fit can judge, the only one of its class, say, keeps its label with a probability of 1.
    """
    is_many = are_many(labels)
    one_hot = labels.astype(np.float32) if is_many else np.eye(n_classes, dtype=np.float32)[labels]
    fold = content_folds(digests, labels) if len(labels) else np.zeros(0, np.int64)
    folds = [held_out for held_out in (fold == i for i in range(N_FOLDS)) if held_out.any() and not held_out.all()]
    if not folds or (n_classes < 2 and not is_many):
        return one_hot
    with blas_threads(threads, codes.size):
        work = min(codes.shape) * len(labels) * n_classes
        kind = "sigmoid" if is_many else "softmax" if work < MAX_WORK else "class-mean"
        fits = _FoldFits(kind, codes, labels, n_classes, widths)
        progress("labels", 0, 2)
        strength, logits = _choose_strength(fits, labels, folds)
        probabilities = _keep_unjudged(_fold_probabilities(logits, folds, is_many), one_hot, folds, is_many)
        progress("labels", 1, 2)
        is_all = len(labels) <= MAX_REFERENCE
        queried = np.arange(len(labels)) if is_all else np.flatnonzero(_lowest_quality(probabilities, labels) < MAX_QUALITY)
        neighbours = _NeighbourVotes(codes, one_hot, digests, queried)
        first = probabilities.copy()
        first[queried] = (probabilities[queried] + neighbours.votes(np.ones(len(one_hot), bool))) / 2
        probabilities = _keep_unjudged(first, one_hot, folds, is_many)
        if is_all and not is_many:
            is_clean = ~_clear_errors(probabilities, labels)
            logits = fits.logits_of(strength, folds, is_clean.astype(np.float32))
            second = (_fold_probabilities(logits, folds, is_many) + neighbours.votes(is_clean)) / 2
            probabilities = _keep_unjudged(second, one_hot, folds, is_many, is_clean)
    progress("labels", 2, 2)
    return probabilities


def _choose_strength(fits: _FoldFits, labels: np.ndarray, folds: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """Choose the strength of the lowest held-out cross entropy, by all folds or, with many images, by the first.

    Gives the strength, and each fold's logits.
    """
    equal_weights, strengths = np.ones(len(labels), np.float32), fits.strengths
    trial_folds = folds[:1] if len(labels) >= TRIAL_FOLD_FROM else folds
    held_out_labels = np.concatenate([labels[held_out] for held_out in trial_folds])

    logits: dict[int, list[np.ndarray]] = {}

    def attempt(i: int, _: int | None) -> float:
        logits[i] = fits.logits_of(strengths[i], trial_folds, equal_weights)
        return float(losses(np.concatenate(logits[i]), held_out_labels).mean())

    best, rest = descend(attempt, begin_at(strengths, len(labels)), len(strengths)), folds[len(trial_folds) :]
    return strengths[best], logits[best] + (fits.logits_of(strengths[best], rest, equal_weights) if rest else [])


def _fold_probabilities(logits: list[np.ndarray], folds: list[np.ndarray], is_many: bool) -> np.ndarray:
    """Turn each fold's logits into probabilities of all photos, (n, k) float32."""
    probabilities = np.zeros((len(folds[0]), logits[0].shape[1]), np.float32)
    for held_out, scores in zip(folds, logits, strict=True):
        probabilities[held_out] = OUTPUTS["sigmoid" if is_many else "softmax"](scores)
    return probabilities


def _lowest_quality(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rate each photo's label, or the worst of its labels, (n,)."""
    quality = find_label_errors(probabilities, labels).quality
    return quality.min(axis=1) if are_many(labels) else quality


def _clear_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Find the clear label errors, which the second round does not learn from; of no class more than a quarter."""
    is_error = find_label_errors(probabilities, labels).quality < MAX_QUALITY
    n_errors = np.bincount(labels, is_error, probabilities.shape[1])
    return is_error & (n_errors * 4 <= np.bincount(labels, minlength=probabilities.shape[1]))[labels]


class _FoldFits:
    """Heads of one kind, each learnt without a fold."""

    def __init__(self, kind: str, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int]) -> None:
        self.strengths = HEADS[kind].strengths
        self._fitter: Fitter = HEADS[kind].fitter(codes, labels, n_classes, widths)
        self._solutions: dict[int, Any] = {}  # of each fold, by the fold's id

    def logits_of(self, strength: float, folds: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
        """Fit without each fold, and give its logits. A fold starts from its own last solution, which has not seen it."""
        known = [self._solutions.get(id(held_out)) for held_out in folds]
        starts = None if any(solution is None for solution in known) else known
        solutions = self._fitter.fit_folds(strength, weights * ~np.array(folds), starts=starts)
        self._solutions.update({id(held_out): solution for held_out, solution in zip(folds, solutions, strict=True)})
        return [
            self._fitter.logits(solution, np.flatnonzero(held_out))
            for held_out, solution in zip(folds, solutions, strict=True)
        ]


class _NeighbourVotes:
    """The votes of the nearest photos of other groups, among MAX_REFERENCE, on the labels of the queried photos."""

    def __init__(self, codes: np.ndarray, one_hot: np.ndarray, digests: Sequence[bytes], queried: np.ndarray) -> None:
        self._one_hot = one_hot
        self._prior = one_hot.mean(axis=0) if (one_hot.sum(axis=1) != 1).any() else np.float32(1 / one_hot.shape[1])
        numbers: dict[bytes, int] = {}
        groups = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])
        reference = np.array(sorted(range(len(one_hot)), key=lambda i: digests[i])[:MAX_REFERENCE])
        n_nearest = min(N_NEIGHBOURS, len(reference) - 1)
        middle = _unit_rows(codes[reference]).mean(axis=0)
        rows = _unit_rows(_unit_rows(codes[reference]) - middle)
        self._nearest = np.empty((len(queried), n_nearest), np.int64)
        self._weights = np.empty((len(queried), n_nearest), np.float32)
        for start in range(0, len(queried), 1000):
            part = slice(start, start + 1000)
            cosines = _unit_rows(_unit_rows(codes[queried[part]]) - middle) @ rows.T
            cosines[groups[queried[part], None] == groups[reference]] = -np.inf
            nearest = np.argpartition(-cosines, n_nearest - 1, axis=1)[:, :n_nearest]
            closest = np.take_along_axis(cosines, nearest, axis=1)
            weights = np.exp(VOTE_SHARPNESS * (closest - closest.max(axis=1, keepdims=True)))  # of its own group: 0
            self._nearest[part], self._weights[part] = reference[nearest], weights / weights.sum(axis=1, keepdims=True)

    def votes(self, is_voter: np.ndarray) -> np.ndarray:
        """Count the votes on each queried photo, (m, k) float32, of those neighbours that may vote; is_voter: (n,) bool."""
        weights = self._weights * is_voter[self._nearest]
        votes = np.zeros((len(weights), self._one_hot.shape[1]), np.float32)
        for nearest, weight in zip(self._nearest.T, weights.T, strict=True):
            votes += weight[:, None] * self._one_hot[nearest]
        return (votes + PRIOR_VOTES * self._prior) / (weights.sum(axis=1, keepdims=True) + PRIOR_VOTES)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), EPSILON)


def _keep_unjudged(
    probabilities: np.ndarray,
    one_hot: np.ndarray,
    folds: list[np.ndarray],
    is_many: bool,
    is_clean: np.ndarray | None = None,
) -> np.ndarray:
    """Put the label itself where no fit could judge it: no photo of other folds has it, or, of several labels, lacks it."""
    for held_out in folds:
        others = ~held_out if is_clean is None else ~held_out & is_clean
        n_with = one_hot[others].sum(axis=0)
        if is_many:
            unknown = np.outer(held_out, (n_with == 0) | (n_with == others.sum()))
        else:
            unknown = np.repeat((held_out & (n_with == 0)[one_hot.argmax(axis=1)])[:, None], one_hot.shape[1], axis=1)
        probabilities[unknown] = one_hot[unknown]
    return probabilities


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> LabelErrors:
    """Rank labels by how probably they are wrong, and flag those that are.

    probabilities: (n, k), out of fold. labels: (n,) positions of classes, or (n, k) of 0 and 1. The quality is p / (p + q),
    p of the label and q of the likeliest other class. A label is flagged if the confident joint counts it off its diagonal
    (section 3.1), its quality is below MAX_QUALITY, and it is among as many of the lowest as the joint counts so; where the
    fits disagree with more than MAX_DISAGREEMENT of the labels, also only if its calibrated quality is below
    MAX_CALIBRATED_QUALITY. Of 20 swapped labels of 400 flower photos this flags 13, and hardly two others.
    """
    if are_many(labels):
        columns = [_errors_of_one_label(p, applies) for p, applies in zip(probabilities.T, labels.T, strict=True)]
        quality, is_flagged = (np.stack(arrays, axis=1) for arrays in zip(*columns, strict=True))
        suggested = np.where(is_flagged, 1 - labels, labels).astype(np.uint8)
        return LabelErrors(quality, is_flagged, suggested, np.zeros_like(is_flagged))
    rows = np.arange(len(labels))
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    likeliest = np.maximum(others[rows, suggested], 0)
    quality = np.clip(of_label / np.maximum(of_label + likeliest, EPSILON), 0, 1).astype(np.float32)
    is_off = (confident_classes(probabilities, labels) != labels) & (likeliest > 0) & (len(labels) >= MIN_IMAGES)
    lowest = np.zeros(len(labels), bool)
    lowest[np.argsort(quality, kind="stable")[: np.count_nonzero(is_off)]] = True
    is_flagged = is_off & lowest & (quality < MAX_QUALITY)
    if len(labels) and (of_label < likeliest).mean() > MAX_DISAGREEMENT:
        is_flagged &= _calibrated_quality(of_label, likeliest, probabilities, labels) < MAX_CALIBRATED_QUALITY
    is_certain = _certain_suggestions(probabilities, labels, suggested, is_flagged)
    return LabelErrors(quality, is_flagged, np.where(likeliest > 0, suggested, labels), is_certain)


def _certain_suggestions(
    probabilities: np.ndarray, labels: np.ndarray, suggested: np.ndarray, is_flagged: np.ndarray
) -> np.ndarray:
    """Decide which flagged photos surely belong to the suggested class, (n,) bool: none whose two classes are confused.

    The risk is the odds against the suggestion, times how similar the two classes are: the mean probability that the photos
    of one, but for the flagged ones, have of the other, plus the weight of a single photo in a small class.
    """
    is_certain = np.zeros(len(labels), bool)
    flagged = np.flatnonzero(is_flagged)
    others = {
        c: probabilities[(labels == c) & ~is_flagged] for c in {*labels[flagged].tolist(), *suggested[flagged].tolist()}
    }
    for i in flagged.tolist():
        a, b, p = int(labels[i]), int(suggested[i]), float(probabilities[i, suggested[i]])
        if len(others[a]) and len(others[b]) and p > 0:
            similarity = max(others[a][:, b].mean(), others[b][:, a].mean()) + 1 / min(len(others[a]), len(others[b]))
            is_certain[i] = similarity * (1 - p) / p < MAX_RISK
    return is_certain


def _calibrated_quality(
    of_label: np.ndarray, other: np.ndarray, probabilities: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Compute the quality of labels from calibrated probabilities (temperature scaling).

    A classifier that is often wrong disagrees with many right labels, but calibrated it is rarely sure of that.
    """
    temperature = best_temperature(np.log(np.maximum(probabilities, np.float32(EPSILON))), labels)
    odds = np.log(np.maximum(of_label, EPSILON)) - np.log(np.maximum(other, EPSILON))
    return 1 / (1 + np.exp(np.minimum(-odds / temperature, 50)))


def _errors_of_one_label(probability: np.ndarray, applies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rate one of several labels: the quality of each photo's, and whether it is flagged."""
    errors = find_label_errors(np.stack([1 - probability, probability], axis=1), applies.astype(np.int64))
    return errors.quality, errors.is_flagged


def confident_classes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give the class that each photo confidently belongs to, (n,) int64; its label where no class is confident.

    Equation 1: a class is confident from the mean probability of it among the photos labelled so; of several, the likeliest.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    of_label = probabilities[np.arange(len(labels)), labels]
    thresholds = np.bincount(labels, of_label, n_classes) / np.maximum(counts, 1)
    thresholds[counts == 0] = np.inf
    confident = np.where(probabilities >= thresholds.astype(np.float32), probabilities, -1)
    best = confident.argmax(axis=1)
    return np.where(confident.max(axis=1) >= 0, best, labels)
