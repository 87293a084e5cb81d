"""Unfamiliarity (out-of-distribution detection): decides whether a photo looks like nothing in the training images.

Takes codes, logits and labels; gives one number a photo, 1 where a chosen share of familiar photos lies below. There are two
cues, and the higher one counts: the distance to the nearest class among the codes (Mahalanobis; Lee et al. 2018),
which sees what is altogether different, and the energy of the scores (Liu et al. 2020), which sees what lies between the
classes. It decides the share; docs/LOG.md has what else was tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.numerics.losses import softmax, unit_rows
from headstart.numerics.pca import first_axes

FAMILIAR_SHARE = 0.95  # of familiar photos lies below the threshold
TYPICAL = 0.5  # the unfamiliarity of the median photo; the threshold is 1
N_AXES = 128  # along which distances count less, because the classes' photos differ there
MOST_FOR_AXES = 5_000  # images that the axes are fitted to
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
    None for one that is not used. median, high: of the higher cue, the values that become TYPICAL and 1.
    """

    n_codes: int
    distance: Distance
    cues: tuple[tuple[float, float] | None, ...]
    median: float
    high: float

    def __call__(self, codes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """(n, d) codes and (n, k) scores at the head's temperature to (n,) float32, never below 0."""
        return self._scaled(_higher_cue((self.distance(codes[:, : self.n_codes]), energy(logits)), self.cues))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, which of_arrays reads."""
        cues = np.array([(np.nan, np.nan) if cue is None else cue for cue in self.cues], np.float64)
        numbers = np.array([self.n_codes, self.median, self.high], np.float64)
        return {"numbers": numbers, "cues": cues, **vars(self.distance)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Unfamiliarity:
        """What to_arrays wrote."""
        n_codes, median, high = arrays["numbers"].tolist()
        cues = tuple(None if np.isnan(mean) else (mean, deviation) for mean, deviation in arrays["cues"].tolist())
        distance = Distance(arrays["axes"], arrays["weight"], arrays["bias"])
        return cls(int(n_codes), distance, cues, median, high)

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

    codes: (n, d), of which the first n_codes are used. labels: (n,), or (n, k) of 0 and 1, where there is one mean instead
    of one a class. held_out, fold: (m,), rows that fits had not seen, and the number of their fold; logits: (m, k), what
    those gave, at the head's temperature. has_energy: whether scores say more than their differences. Gives the m held-out
    rows' own unfamiliarity, (m,), as well.
    """
    if not len(held_out):
        return None
    rows = codes[:, :n_codes]
    distances = np.empty(len(held_out), np.float32)
    for part in (np.flatnonzero(fold == i) for i in np.unique(fold)):
        others = np.delete(np.arange(len(rows)), held_out[part])
        distances[part] = learn_distance(rows[others], labels[others], n_classes)(rows[held_out[part]])
    values = (distances, energy(logits))
    cues = (_mean_and_deviation(distances), _mean_and_deviation(values[1]) if has_energy else None)
    higher = np.sort(_higher_cue(values, cues))
    rank = min(len(higher), int(np.ceil((len(higher) + 1) * FAMILIAR_SHARE)))
    high, median = float(higher[rank - 1]), float(np.median(higher))
    unfamiliarity = Unfamiliarity(
        n_codes, learn_distance(rows, labels, n_classes), cues, median, max(high, median + 1e-3 * (1 + abs(median)))
    )
    return unfamiliarity, unfamiliarity._scaled(_higher_cue(values, cues))


def learn_distance(rows: np.ndarray, labels: np.ndarray, n_classes: int) -> Distance:
    """Learn Mahalanobis' distance to the classes' means, with one covariance for all, within classes.

    rows: (n, d) codes. The covariance is shrunk: its mean eigenvalue, among those that so many images can have, is added to
    each; it has the N_AXES largest axes.
    """
    of_class = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    present, of_class = np.unique(of_class, return_inverse=True)
    means = _means(rows, of_class, len(present))
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_FOR_AXES)).astype(np.int64)
    deviations = unit_rows(rows[some].astype(np.float32), (rows.shape[1],)) - means[of_class[some]]
    axes, lengths = first_axes(deviations, N_AXES)
    variances = lengths**2 / len(deviations)
    least = max(float(np.einsum("nd,nd->", deviations, deviations)) / len(deviations) / max(1, min(deviations.shape)), 1e-6)
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


def unfamiliarity_of_hidden_class(
    codes: np.ndarray, logits: np.ndarray, labels: np.ndarray, n_classes: int, held_out: np.ndarray, hidden: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unfamiliarity and 1 - highest probability if one class were never shown, and which photos are of that class.

    codes: (n, d) of the last layer. logits: (n, k - 1) of a head without the class, fitted on the other classes' photos that
    are not held out, as the distance is here. held_out: (n,) booleans. The photos judged are the held-out ones of the other
    classes, and all of the class.
    """
    is_hidden = labels == hidden
    train = ~held_out & ~is_hidden
    judged = np.flatnonzero(held_out | is_hidden)
    values = (learn_distance(codes[train], labels[train], n_classes)(codes[judged]), energy(logits[judged]))
    familiar = ~is_hidden[judged]
    cues = tuple(_mean_and_deviation(value[familiar]) for value in values)
    return _higher_cue(values, cues), 1 - softmax(logits[judged]).max(axis=1), is_hidden[judged]


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-4)


def _higher_cue(values: Sequence[np.ndarray], cues: Sequence[tuple[float, float] | None]) -> np.ndarray:
    scaled = [(value - cue[0]) / cue[1] for value, cue in zip(values, cues, strict=True) if cue is not None]
    return np.max(scaled, axis=0)


def roc_auc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """How often a positive scores above a negative, ties half (Mann & Whitney 1947); NaN without one of each."""
    order = np.argsort(scores, kind="stable")
    _, place, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = is_positive[order]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")
