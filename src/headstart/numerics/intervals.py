"""Intervals: how far a share that was counted on n photos can be trusted, copies among them or not.

Numbers in, numbers out. It decides what copies of a photo say: together as much as one photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(n_correct: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was n_correct of n (Wilson 1927, eq. 4); (0, 1) where n is 0.

    Of photos with copies among them both are scaled to effective_size.
    """
    if n == 0:
        return 0.0, 1.0
    share = n_correct / n
    centre = share + Z95**2 / (2 * n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    low, high = (centre - half) / (1 + Z95**2 / n), (centre + half) / (1 + Z95**2 / n)
    return (0.0 if n_correct == 0 else float(low)), (1.0 if n_correct == n else float(high))


def share_interval(n_correct: float, n: int, n_effective: float) -> tuple[float, float]:
    """The 95 % interval of n_correct of n photos that say as much as n_effective independent ones."""
    return wilson_interval(n_correct * n_effective / n if n else 0, n_effective)


def group_numbers(groups: Sequence[bytes] | Sequence[int]) -> np.ndarray:
    """(n,) int64: the groups of n photos numbered 0, 1, ... in ascending order, whatever order the photos come in."""
    different: set[Any] = set(groups)
    numbers = {group: i for i, group in enumerate(sorted(different))}
    return np.array([numbers[group] for group in groups], np.int64)


def one_of_each(groups: Sequence[bytes] | Sequence[int], rows: np.ndarray | None = None) -> np.ndarray:
    """The positions of one photo of each group, the groups in ascending order: (g,) int64.

    rows: (n, ...) numbers of each photo, by whose hash the one is chosen, so that neither names nor order matter.
    """
    group = group_numbers(groups)
    if rows is None or len(group) == group.max(initial=-1) + 1:
        return np.unique(group, return_index=True)[1]
    by_content = np.array(sorted(range(len(group)), key=lambda i: sha256(rows[i].tobytes()).digest()), np.int64)
    return by_content[np.unique(group[by_content], return_index=True)[1]]


def effective_number(weights: np.ndarray) -> float:
    """How many images that all count the same say as much about a mean as images of these weights: (sum w)² / sum w².

    Kish 1965, section 8.2; 0 for no images.
    """
    weights = weights.astype(np.float64)
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12))


def effective_size(groups: Sequence[bytes] | Sequence[int] | None, n: int) -> float:
    """How many independent photos say as much as n photos, of which those of a group are right or wrong together.

    groups: the same for photos that are one; None where no two are. Each group is one photo that weighs as many as it has.
    """
    if groups is None or n == 0:
        return float(n)
    return effective_number(np.bincount(group_numbers(groups)))
