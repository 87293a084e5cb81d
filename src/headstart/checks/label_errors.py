"""Label errors: which photos probably have the wrong label, by confident learning (Northcutt, Jiang, Chuang: JAIR 70, 2021).

Takes codes, labels and which photos belong together; gives probabilities of fits that had not seen the photo they judge, and
from those a quality of each label. It decides what judges, how labels are ranked, and which are flagged; the choices were
measured by swapping labels (benchmarks/label_errors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.data.labels import are_many
from headstart.data.splits import content_folds
from headstart.engines.hardware import blas_threads
from headstart.heads.kinds import HEADS
from headstart.heads.logistic import SigmoidRegression, SoftmaxRegression
from headstart.heads.nearest import ClassMeans
from headstart.numerics.losses import OUTPUTS, losses
from headstart.progress import Progress
from headstart.selection.cross_validation import begin_at, descend
from headstart.trust.calibration import best_temperature

N_FOLDS = 5
MANY_IMAGES = 2_500  # from here on one fold is enough to choose the strength by
MOST_WORK = 3e9  # images x codes x classes; above, each pass of softmax regression takes seconds, and class means have to do
N_NEIGHBOURS = 15
SHARPNESS = 10.0  # a neighbour's vote is exp(SHARPNESS x cosine)
DOUBT = 0.25  # of all votes: spread over all classes, so that none is impossible
MOST_COMPARED = (
    5_000  # images that are compared each with each: above, softmax regression alone ranks as well, and is quicker
)
CLEAR = 0.2  # a quality: another class is at least four times as likely as the label
WEAK = 0.2  # a share of labels that is not what the fits say, from which on most doubts are the fits' own errors
CERTAIN = 0.02  # a quality, calibrated, below which a label is flagged then: 52 of 3,670 clean images of CIFAR-10, not 176
SURE = 0.007  # below, a suggestion may be taken unseen: 37 of 37 were right where it was chosen, 54 of 56 elsewhere
FEW_IMAGES = 20  # below, nothing is flagged: five photos with labels by chance are at odds as well
LEAST = 1e-12


@dataclass(frozen=True)
class LabelErrors:
    """What is thought of each photo's label, (n,); of several labels a photo, of each label by itself, (n, k).

    quality: float32 in [0, 1], low where it is probably wrong; from 0.5 on the label is also what the others suggest.
    is_flagged: bool, those that are probably wrong. suggested: the label instead, (n,) int64, or (n, k) uint8 of 0 and 1.
    is_certain: bool, those of the flagged whose suggestion is as good as certain; none of several labels a photo.
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
    """Judge every photo by fits that have not seen it: (n, k) float32 probabilities, five folds held out in turn.

    codes: (n, d) of any float type. labels: (n,) positions of classes, or (n, k) of 0 and 1. digests: photos of the same one
    are never held out apart (see copies.find_copies). widths: how many of the codes each layer has. threads: cores
    that linear algebra may use. It is the mean of what a head and the nearest photos say, asked twice: the second time
    nothing is learnt from what clearly is labelled wrong. Above MOST_COMPARED photos a head is asked, once, and as many
    neighbours about those alone that it doubts; of very many classes that head is class means. The strength is chosen once.
    A photo that no other can speak to, as it is the only one of its class, say, keeps its label, with a probability of 1.
    """
    is_many = are_many(labels)
    given = labels.astype(np.float32) if is_many else np.eye(n_classes, dtype=np.float32)[labels]
    fold = content_folds(digests, labels, N_FOLDS) if len(labels) else np.zeros(0, np.int64)
    folds = [held_out for held_out in (fold == i for i in range(N_FOLDS)) if held_out.any() and not held_out.all()]
    if not folds or (n_classes < 2 and not is_many):
        return given
    with blas_threads(threads, codes.size):
        work = min(codes.shape) * len(labels) * n_classes
        kind = "sigmoid" if is_many else "softmax" if work < MOST_WORK else "class-mean"
        judge = JUDGES[kind](codes, labels, n_classes, widths)
        progress("labels", 0, 2)
        strength, logits = _choose(judge, HEADS[kind].strengths, labels, folds)
        probabilities = _where_known(_in_place(logits, folds, is_many), given, folds, is_many)
        progress("labels", 1, 2)
        is_all = len(labels) <= MOST_COMPARED
        asked = np.arange(len(labels)) if is_all else np.flatnonzero(_least_quality(probabilities, labels) < CLEAR)
        near = _Neighbours(codes, given, digests, asked)
        both = probabilities.copy()
        both[asked] = (probabilities[asked] + near.votes(np.ones(len(given), bool))) / 2
        probabilities = _where_known(both, given, folds, is_many)
        if is_all and not is_many:
            learnt = ~_doubted(probabilities, labels)
            logits = judge.logits_of(strength, folds, learnt.astype(np.float32))
            again = (_in_place(logits, folds, is_many) + near.votes(learnt)) / 2
            probabilities = _where_known(again, given, folds, is_many, learnt)
    progress("labels", 2, 2)
    return probabilities


def _choose(
    judge: _SoftmaxFolds | _ClassMeanFolds, strengths: Sequence[float], labels: np.ndarray, folds: list[np.ndarray]
) -> tuple[float, list[np.ndarray]]:
    """The strength of the lowest held-out cross entropy, by all folds or, of many images, the first; each fold's logits."""
    everything = np.ones(len(labels), np.float32)
    asked = folds[:1] if len(labels) >= MANY_IMAGES else folds
    of_asked = np.concatenate([labels[held_out] for held_out in asked])

    tried: dict[int, list[np.ndarray]] = {}

    def attempt(i: int, _: int | None) -> float:
        tried[i] = judge.logits_of(strengths[i], asked, everything)
        return float(losses(np.concatenate(tried[i]), of_asked).mean())

    best, rest = descend(attempt, begin_at(strengths, len(labels)), len(strengths)), folds[len(asked) :]
    return strengths[best], tried[best] + (judge.logits_of(strengths[best], rest, everything) if rest else [])


def _in_place(logits: list[np.ndarray], folds: list[np.ndarray], is_many: bool) -> np.ndarray:
    """Each fold's logits as probabilities of its photos, (n, k) float32."""
    probabilities = np.zeros((len(folds[0]), logits[0].shape[1]), np.float32)
    for held_out, scores in zip(folds, logits, strict=True):
        probabilities[held_out] = OUTPUTS["sigmoid" if is_many else "softmax"](scores)
    return probabilities


def _least_quality(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each photo's label, or of its least certain one, (n,)."""
    quality = find_label_errors(probabilities, labels).quality
    return quality.min(axis=1) if are_many(labels) else quality


def _doubted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The photos that nothing is learnt from the second time: clear errors, but no class loses more than a quarter."""
    is_doubted = find_label_errors(probabilities, labels).quality < CLEAR
    n_doubted = np.bincount(labels, is_doubted, probabilities.shape[1])
    return is_doubted & (n_doubted * 4 <= np.bincount(labels, minlength=probabilities.shape[1]))[labels]


class _SoftmaxFolds(SoftmaxRegression):
    """Several folds learnt at once: a pass over the codes is what costs, and they share it."""

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """As SoftmaxRegression."""
        super().__init__(codes, labels, n_classes, widths)
        self._folds: list[np.ndarray] = []
        self._answers: dict[int, np.ndarray] = {}  # of each fold, by the fold's id

    def logits_of(self, strength: float, folds: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
        """What fits without each fold say of it. A fold begins at its own last answer, never at one that has seen it."""
        self._folds = folds
        nothing = np.zeros((self.rows.shape[1] + 1, self.n_classes), np.float32)
        start = np.concatenate([self._answers.get(id(held_out), nothing) for held_out in folds], axis=1)
        answers = np.split(self.fit(strength, weights=weights, start=start), len(folds), axis=1)
        self._answers.update({id(held_out): answer for held_out, answer in zip(folds, answers, strict=True)})
        return [self.logits(answer, np.flatnonzero(held_out)) for held_out, answer in zip(folds, answers, strict=True)]

    def _loss_and_errors(self, scores: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        losses, errors = [], []
        for block, held_out in zip(np.split(scores, len(self._folds), axis=1), self._folds, strict=True):
            learnt = weights * ~held_out
            loss, error = super()._loss_and_errors(block.copy(), learnt / learnt.sum())
            losses.append(loss)
            errors.append(error)
        return sum(losses), np.concatenate(errors, axis=1)


class _SigmoidFolds(_SoftmaxFolds, SigmoidRegression):
    """The same for several labels an image."""


class _ClassMeanFolds(ClassMeans):
    """Class means of each fold: for very many classes, where a pass of regression takes seconds."""

    def logits_of(self, strength: float, folds: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
        """As _SoftmaxFolds."""
        return [self.logits(self.fit(strength, weights=weights * ~held_out), np.flatnonzero(held_out)) for held_out in folds]


JUDGES: dict[str, Callable[..., _SoftmaxFolds | _ClassMeanFolds]] = {
    "softmax": _SoftmaxFolds,
    "sigmoid": _SigmoidFolds,
    "class-mean": _ClassMeanFolds,
}


class _Neighbours:
    """The photos of other groups that are nearest to those asked about, of MOST_COMPARED, and what labels they have."""

    def __init__(self, codes: np.ndarray, given: np.ndarray, digests: Sequence[bytes], asked: np.ndarray) -> None:
        self._given = given
        self._prior = given.mean(axis=0) if (given.sum(axis=1) != 1).any() else np.float32(1 / given.shape[1])
        numbers: dict[bytes, int] = {}
        groups = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])
        stored = np.array(sorted(range(len(given)), key=lambda i: digests[i])[:MOST_COMPARED])
        n_nearest = min(N_NEIGHBOURS, len(stored) - 1)
        middle = _unit(codes[stored]).mean(axis=0)
        rows = _unit(_unit(codes[stored]) - middle)
        self._nearest = np.empty((len(asked), n_nearest), np.int64)
        self._weights = np.empty((len(asked), n_nearest), np.float32)
        for start in range(0, len(asked), 1000):
            part = slice(start, start + 1000)
            cosines = _unit(_unit(codes[asked[part]]) - middle) @ rows.T
            cosines[groups[asked[part], None] == groups[stored]] = -np.inf
            nearest = np.argpartition(-cosines, n_nearest - 1, axis=1)[:, :n_nearest]
            near = np.take_along_axis(cosines, nearest, axis=1)
            weights = np.exp(SHARPNESS * (near - near.max(axis=1, keepdims=True)))  # of its own group: 0
            self._nearest[part], self._weights[part] = stored[nearest], weights / weights.sum(axis=1, keepdims=True)

    def votes(self, learnt: np.ndarray) -> np.ndarray:
        """What those that are learnt from say of each photo asked about: (m, k) float32."""
        weights = self._weights * learnt[self._nearest]
        votes = np.zeros((len(weights), self._given.shape[1]), np.float32)
        for nearest, weight in zip(self._nearest.T, weights.T, strict=True):
            votes += weight[:, None] * self._given[nearest]
        return (votes + DOUBT * self._prior) / (weights.sum(axis=1, keepdims=True) + DOUBT)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST)


def _where_known(
    probabilities: np.ndarray, given: np.ndarray, folds: list[np.ndarray], is_many: bool, learnt: np.ndarray | None = None
) -> np.ndarray:
    """The probabilities, but the label itself where nothing is known of it: no other has it, or, of several, lacks it."""
    for held_out in folds:
        others = ~held_out if learnt is None else ~held_out & learnt
        n_with = given[others].sum(axis=0)
        if is_many:
            unknown = np.outer(held_out, (n_with == 0) | (n_with == others.sum()))
        else:
            unknown = np.repeat((held_out & (n_with == 0)[given.argmax(axis=1)])[:, None], given.shape[1], axis=1)
        probabilities[unknown] = given[unknown]
    return probabilities


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> LabelErrors:
    """Rank labels by how probably they are wrong, and flag those that are.

    probabilities: (n, k) of fits that had not seen the photo. labels: (n,) positions of classes, or (n, k) of 0 and 1. The
    quality is p / (p + q), p of the label and q of the likeliest other class. Flagged are photos that the confident joint
    counts off its diagonal (section 3.1), if their quality is below CLEAR, and among as many of the lowest as it counts so;
    where the fits are WEAK, only if it is below CERTAIN, too. Of 20 swapped labels of 400 flower photos that finds 13, and
    hardly two photos beside them.
    """
    if are_many(labels):
        each = [_of_two(p, applies) for p, applies in zip(probabilities.T, labels.T, strict=True)]
        quality, is_flagged = (np.stack(columns, axis=1) for columns in zip(*each, strict=True))
        suggested = np.where(is_flagged, 1 - labels, labels).astype(np.uint8)
        return LabelErrors(quality, is_flagged, suggested, np.zeros_like(is_flagged))
    rows = np.arange(len(labels))
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    likeliest = np.maximum(others[rows, suggested], 0)
    quality = np.clip(of_label / np.maximum(of_label + likeliest, LEAST), 0, 1).astype(np.float32)
    is_off = (confident_classes(probabilities, labels) != labels) & (likeliest > 0) & (len(labels) >= FEW_IMAGES)
    lowest = np.zeros(len(labels), bool)
    lowest[np.argsort(quality, kind="stable")[: np.count_nonzero(is_off)]] = True
    is_flagged = is_off & lowest & (quality < CLEAR)
    if len(labels) and (of_label < likeliest).mean() > WEAK:
        is_flagged &= _calibrated(of_label, likeliest, probabilities, labels) < CERTAIN
    is_certain = _are_certain(probabilities, labels, suggested, is_flagged)
    return LabelErrors(quality, is_flagged, np.where(likeliest > 0, suggested, labels), is_certain)


def _are_certain(probabilities: np.ndarray, labels: np.ndarray, suggested: np.ndarray, is_flagged: np.ndarray) -> np.ndarray:
    """Which of the flagged photos surely belong to another class, (n,): not those of classes that are easily confused.

    Asked are the odds against the suggestion, times how alike the two classes are: the mean probability that the photos of
    one, but for the flagged ones, have of the other, and what a single photo weighs in a small class.
    """
    is_certain = np.zeros(len(labels), bool)
    flagged = np.flatnonzero(is_flagged)
    others = {
        c: probabilities[(labels == c) & ~is_flagged] for c in {*labels[flagged].tolist(), *suggested[flagged].tolist()}
    }
    for i in flagged.tolist():
        a, b, p = int(labels[i]), int(suggested[i]), float(probabilities[i, suggested[i]])
        if len(others[a]) and len(others[b]) and p > 0:
            alike = max(others[a][:, b].mean(), others[b][:, a].mean()) + 1 / min(len(others[a]), len(others[b]))
            is_certain[i] = alike * (1 - p) / p < SURE
    return is_certain


def _calibrated(of_label: np.ndarray, other: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The quality that labels would have if probabilities were as sure as the labels say that they may be.

    A classifier that is often wrong says of many right labels that they are not, but is rarely sure of that.
    """
    temperature = best_temperature(np.log(np.maximum(probabilities, np.float32(LEAST))), labels)
    odds = np.log(np.maximum(of_label, LEAST)) - np.log(np.maximum(other, LEAST))
    return 1 / (1 + np.exp(np.minimum(-odds / temperature, 50)))


def _of_two(probability: np.ndarray, applies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quality of one of several labels, and whether it is flagged."""
    found = find_label_errors(np.stack([1 - probability, probability], axis=1), applies.astype(np.int64))
    return found.quality, found.is_flagged


def confident_classes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class that each photo confidently belongs to, (n,) int64; its label where none is confident.

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
