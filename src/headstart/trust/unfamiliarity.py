"""Unfamiliarity: how little a photo looks like anything that was learnt from, so that a classifier can say "I don't know".

Takes codes, scores and labels; gives one number a photo, 1 where a chosen share of familiar photos lies below. Two cues are
asked, and the stranger answer counts: the distance to the nearest class among the codes (Mahalanobis; Lee et al. 2018),
which sees what is altogether different, and the energy of the scores (Liu et al. 2020), which sees what lies between the
classes. It decides the share; docs/LOG.md has what else was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.numerics.losses import softmax, unit_rows
from headstart.numerics.pca import first_axes

KEPT = 0.95  # of familiar photos, which the threshold lets pass
TYPICAL = 0.5  # the unfamiliarity of the median photo; the threshold is 1
N_AXES = 128  # along which distances count less, because the classes' photos differ there
MOST_LEARNT = 5_000  # images that the axes are found from
BLOCK = 4_096  # rows at a time
CUES = ("distance", "energy")


@dataclass(frozen=True)
class Distance:
    """Mahalanobis' distance to the nearest class mean: with x a row of length 1, 1 - |x @ axes|² + min(x @ weight + bias).

    axes: (d, r) float32. weight: (d, m) float32 and bias (m,) float32, m class means.
    """

    axes: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes to (n,) float32."""
        x = unit_rows(codes.astype(np.float32), (codes.shape[1],))
        along = x @ self.axes
        return 1 - np.einsum("nr,nr->n", along, along) + (x @ self.weight + self.bias).min(axis=1)


@dataclass(frozen=True)
class Unfamiliarity:
    """The number of a photo: the higher of its cues, each in standard deviations of familiar photos', on one scale.

    n_codes: of the codes, how many the distance is of, the first ones. cues: (mean, standard deviation) of each of CUES,
    None for one that is not asked. median, high: of the higher cue, what becomes TYPICAL and 1.
    """

    n_codes: int
    distance: Distance
    cues: tuple[tuple[float, float] | None, ...]
    median: float
    high: float

    def __call__(self, codes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """(n, d) codes and (n, k) scores at the head's temperature to (n,) float32, never below 0."""
        return self._scaled(_higher((self.distance(codes[:, : self.n_codes]), energy(logits)), self.cues))

    def _scaled(self, higher: np.ndarray) -> np.ndarray:
        slope = (1 - TYPICAL) / (self.high - self.median)
        return np.maximum(0, TYPICAL + (higher - self.median) * slope).astype(np.float32)


def fit_unfamiliarity(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    n_codes: int,
    held_out: np.ndarray,
    fold: np.ndarray,
    logits: np.ndarray,
    has_energy: bool = True,
) -> tuple[Unfamiliarity, np.ndarray] | None:
    """Learn what is familiar; None where nothing was held out to say what is usual.

    codes: (n, d), of which the first n_codes are asked. labels: (n,), or (n, k) of 0 and 1, where there is one mean instead
    of one a class. held_out, fold: (m,), rows that fits had not seen, and in which turn; logits: (m, k), what those gave,
    at the head's temperature. has_energy: whether scores say more than their differences. Gives the m held-out rows' own
    unfamiliarity, (m,), as well.
    """
    if not len(held_out):
        return None
    rows = codes[:, :n_codes]
    distances = np.empty(len(held_out), np.float32)
    for part in _folds(fold):
        learnt = np.delete(np.arange(len(rows)), held_out[part])
        distances[part] = learn_distance(rows[learnt], labels[learnt], n_classes)(rows[held_out[part]])
    values = (distances, energy(logits))
    cues = (_spread(distances), _spread(values[1]) if has_energy else None)
    higher = np.sort(_higher(values, cues))
    rank = min(len(higher), int(np.ceil((len(higher) + 1) * KEPT)))
    high, median = float(higher[rank - 1]), float(np.median(higher))
    learnt_from = Unfamiliarity(
        n_codes, learn_distance(rows, labels, n_classes), cues, median, max(high, median + 1e-3 * (1 + abs(median)))
    )
    return learnt_from, learnt_from._scaled(_higher(values, cues))


def learn_distance(rows: np.ndarray, labels: np.ndarray, n_classes: int) -> Distance:
    """Learn Mahalanobis' distance to the classes' means, with one covariance for all, within classes.

    rows: (n, d) codes. The covariance is shrunk: its mean eigenvalue, among those that so many images can have, is added to
    each; of its axes the N_AXES largest are kept.
    """
    of_class = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    present, of_class = np.unique(of_class, return_inverse=True)
    means = _means(rows, of_class, len(present))
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_LEARNT)).astype(np.int64)
    apart = unit_rows(rows[some].astype(np.float32), (rows.shape[1],)) - means[of_class[some]]
    axes, lengths = first_axes(apart, N_AXES)
    variances = lengths**2 / len(apart)
    least = max(float(np.einsum("nd,nd->", apart, apart)) / len(apart) / max(1, min(apart.shape)), 1e-6)
    axes = (axes * np.sqrt(variances / (variances + least))).astype(np.float32)
    along = means @ axes
    weight = -2 * (means - along @ axes.T)
    bias = np.einsum("md,md->m", means, means) - np.einsum("mr,mr->m", along, along)
    return Distance(axes, np.ascontiguousarray(weight.T), bias.astype(np.float32))


def _means(rows: np.ndarray, of_class: np.ndarray, n_classes: int) -> np.ndarray:
    """The mean of each class's rows at length 1, (m, d) float32: of all of them, for a class may have a few in thousands."""
    sums = np.zeros((n_classes, rows.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        x, present = unit_rows(rows[part].astype(np.float32), (rows.shape[1],)), np.unique(of_class[part])
        sums[present] += (of_class[part] == present[:, None]).astype(np.float32) @ x
    return sums / np.bincount(of_class, minlength=n_classes).astype(np.float32)[:, None]


def energy(logits: np.ndarray) -> np.ndarray:
    """-log(sum(exp(scores))): (n, k) to (n,), higher where no class is at home (Liu et al. 2020, equation 4)."""
    highest = logits.max(axis=1)
    return -(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def left_out(
    codes: np.ndarray, logits: np.ndarray, labels: np.ndarray, n_classes: int, held_out: np.ndarray, left: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unfamiliarity and 1 - highest probability where one class had never been shown, and which photos are of that class.

    codes: (n, d) of the last layer. logits: (n, k - 1) of a head without the class, fitted on the other classes' photos that
    are not held out, as the distance is here. held_out: (n,) booleans. The photos judged are the held-out ones of the other
    classes, and all of the class.
    """
    is_left = labels == left
    learnt = ~held_out & ~is_left
    judged = np.flatnonzero(held_out | is_left)
    values = (learn_distance(codes[learnt], labels[learnt], n_classes)(codes[judged]), energy(logits[judged]))
    familiar = ~is_left[judged]
    cues = tuple(_spread(value[familiar]) for value in values)
    return _higher(values, cues), 1 - softmax(logits[judged]).max(axis=1), is_left[judged]


def _spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-4)


def _higher(values: Sequence[np.ndarray], cues: Sequence[tuple[float, float] | None]) -> np.ndarray:
    asked = [(value - cue[0]) / cue[1] for value, cue in zip(values, cues, strict=True) if cue is not None]
    return np.max(asked, axis=0)


def _folds(fold: np.ndarray) -> Iterator[np.ndarray]:
    yield from (np.flatnonzero(fold == i) for i in np.unique(fold))


def roc_auc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """How often a positive scores above a negative, ties half (Mann & Whitney 1947); NaN without one of each."""
    order = np.argsort(scores, kind="stable")
    _, place, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = is_positive[order]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")
