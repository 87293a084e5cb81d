"""Comparison of two classifiers on the same images: McNemar's exact test, and the interval of the difference in accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from headstart.numerics.intervals import effective_size, group_numbers, wilson_interval
from headstart.record import ComparisonRecord

ALPHA = 0.05  # a difference counts where chance alone makes one as large less often than this


@dataclass(frozen=True)
class Comparison:
    """Two classifiers, a and b, on the same n images.

    only_a, only_b: images that one gets right and the other does not. difference: accuracy of a minus that of b. interval:
    its 95 %. p: McNemar's. verdict, on a: `better`, `worse` or `undecided`. sentence: all this in words.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p: float
    verdict: str
    sentence: str

    def to_json(self) -> ComparisonRecord:
        """Plain dictionaries and lists, for run.json and --json."""
        return cast(ComparisonRecord, asdict(self))


def compare_classifiers(
    a: np.ndarray,
    b: np.ndarray,
    *,
    groups: Sequence[bytes] | None = None,
    name_a: str = "the first",
    name_b: str = "the second",
) -> Comparison:
    """Compare a with b by which of the same images each gets right: (n,) booleans each.

    groups: the same for copies of a photo, None where there are none. Raises ValueError for n = 0, and for unequal
    lengths.
    """
    a, b = _checked_pair(a, b)
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(a, b, groups)
    ahead_a, ahead_b = _groups_ahead(a, b, groups)
    # A group of copies decides once: where it turns the count of images around, neither is shown to be better.
    is_one_way = (ahead_a > ahead_b) == (only_a > only_b)
    verdict = "undecided" if p >= ALPHA or not is_one_way else "better" if only_a > only_b else "worse"
    scale = effective_size(groups, n) / n
    interval = _difference_interval(scale * int((a & b).sum()), scale * only_a, scale * only_b, scale * n)
    sentence = _sentence(verdict, p, (float(a.mean()), float(b.mean())), interval, (only_a, only_b), (name_a, name_b), n)
    return Comparison(n, only_a, only_b, (only_a - only_b) / n, interval, p, verdict, sentence[0].upper() + sentence[1:])


def mcnemar(a: np.ndarray, b: np.ndarray, groups: Sequence[bytes] | None = None) -> float:
    """McNemar's exact two-sided p-value: how often chance alone divides the images that only one gets right so unevenly.

    a, b: (n,) booleans. Of m such images the smaller share is binomial(m, 1/2), McNemar 1947; exact: Fagerland et al. 2013.
    groups: the same for copies of a photo; each group counts once, for whichever gets more of its images right.
    """
    a, b = _checked_pair(a, b)
    ahead_a, ahead_b = _groups_ahead(a, b, groups)
    m, least = ahead_a + ahead_b, min(ahead_a, ahead_b)
    # In logarithms: the binomial coefficients of some thousand images are no floats any more, and SciPy's sum costs 0.4 s to
    # import.
    i = np.arange(1, least + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((m + 1 - i) / i))])
    return min(1.0, 2 * float(np.exp(logs - logs[-1]).sum() * np.exp(logs[-1] - m * np.log(2))))


def _groups_ahead(a: np.ndarray, b: np.ndarray, groups: Sequence[bytes] | None) -> tuple[int, int]:
    """The number of groups of which a gets more images right than b, and the other way round; None: an image is a group."""
    ahead = a.astype(np.int64) - b
    if groups is not None:
        ahead = np.bincount(group_numbers(groups), ahead)
    return int((ahead > 0).sum()), int((ahead < 0).sum())


def _checked_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"two classifiers are compared on the same images, one at least; these are {a.shape} and {b.shape}")
    return a, b


def _difference_interval(both: float, only_a: float, only_b: float, n: float) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired shares: Newcombe 1998, Statistics in Medicine 17:2635, method 10."""
    right_a, right_b, neither = both + only_a, both + only_b, n - both - only_a - only_b
    share_a, share_b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n), wilson_interval(right_b, n)
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0)
    spread = right_a * (n - right_a) * right_b * (n - right_b)
    phi = product / spread**0.5 if spread else 0.0

    def half(x: float, y: float) -> float:
        return float(np.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0)))

    difference = (only_a - only_b) / n
    return difference - half(share_a - low_a, high_b - share_b), difference + half(high_a - share_a, share_b - low_b)


def _sentence(
    verdict: str,
    p: float,
    accuracies: tuple[float, float],
    interval: tuple[float, float],
    only: tuple[int, int],
    names: tuple[str, str],
    n: int,
) -> str:
    a, b = (f"{100 * x:.1f} %" for x in accuracies)
    low, high = (f"{100 * x:+z.1f}" for x in interval)
    if only == (0, 0):
        return (
            f"{names[0]} and {names[1]} get the same images right, {a} of {n:,}; on others their accuracies may differ by "
            f"{low} to {high} points (95 % interval)."
        )
    numbers = f"{a} against {b} on the same {n:,} images, a difference of {low} to {high} points (95 % interval)"
    chance = "less than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %" if p < 0.1 else f"{100 * p:.0f} %"
    if verdict == "undecided":
        by_chance = f"chance alone is as uneven {chance} of the time" if p < 0.995 else "no more uneven than chance makes it"
        return (
            f"it is not decided whether {names[0]} is better or worse than {names[1]}: {numbers}. Only {names[0]} gets "
            f"{only[0]:,} of them right, only {names[1]} {only[1]:,}: {by_chance}."
        )
    return f"{names[0]} is {verdict} than {names[1]}: {numbers}; chance alone makes such a difference {chance} of the time."
