"""95 % intervals of a share that was counted on n photos (Wilson 1927), with copies of a photo among them or not.

Numbers in, numbers out. It decides that copies of a photo count together as one photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(n_correct: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share, n_correct of n (Wilson 1927, eq. 4); (0, 1) where n is 0.

    Where there are copies among the photos, scale both to effective_size.
    """
    if n == 0:
        return 0.0, 1.0
    share = n_correct / n
    centre = share + Z95**2 / (2 * n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    low, high = (centre - half) / (1 + Z95**2 / n), (centre + half) / (1 + Z95**2 / n)
    return (0.0 if n_correct == 0 else float(low)), (1.0 if n_correct == n else float(high))


def share_interval(n_correct: float, n: int, n_effective: float) -> tuple[float, float]:
    """The 95 % interval of n_correct of n photos that count as n_effective independent ones."""
    return wilson_interval(n_correct * n_effective / n if n else 0, n_effective)


def group_numbers(groups: Sequence[bytes] | Sequence[int]) -> np.ndarray:
    """(n,) int64: the groups of n photos numbered 0, 1, ... in ascending order, whatever order the photos come in."""
    different: set[Any] = set(groups)
    numbers = {group: i for i, group in enumerate(sorted(different))}
    return np.array([numbers[group] for group in groups], np.int64)


def one_of_each(groups: Sequence[bytes] | Sequence[int], rows: np.ndarray | None = None) -> np.ndarray:
    """Choose one photo of each group: their positions, (g,) int64, the groups in ascending order.

    rows: (n, ...) numbers of each photo, by whose hash the photo is chosen, so that neither names nor order matter.
    """
    group = group_numbers(groups)
    if rows is None or len(group) == group.max(initial=-1) + 1:
        return np.unique(group, return_index=True)[1]
    by_content = np.array(sorted(range(len(group)), key=lambda i: sha256(rows[i].tobytes()).digest()), np.int64)
    return by_content[np.unique(group[by_content], return_index=True)[1]]


def effective_number(weights: np.ndarray) -> float:
    """The effective sample size of weighted images, (sum w)² / sum w² (Kish 1965, section 8.2); 0 for no images.

    A mean over so many images of equal weight is as exact as one over these.
    """
    weights = weights.astype(np.float64)
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12))


def effective_size(groups: Sequence[bytes] | Sequence[int] | None, n: int) -> float:
    """The effective sample size of n photos, of which those of a group are right or wrong together.

    groups: the same for copies of a photo; None where there are none. A group counts as one photo with the weight of all.
    """
    if groups is None or n == 0:
        return float(n)
    return effective_number(np.bincount(group_numbers(groups)))
