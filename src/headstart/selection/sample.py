"""The sample of images that choices are made on, where there are many: drawn by content, and so the same each time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from headstart.data.labels import members

FEW_PER_CLASS = 10  # different photos of each class that are always in the sample


def sample(
    groups: Sequence[bytes],
    labels: np.ndarray,
    n_classes: int,
    *,
    most: int,
    digests: Sequence[bytes] | None = None,
    balance: bool = False,
) -> np.ndarray:
    """Sample images to choose by, in order: the same however they are named or ordered, and some of every class.

    most: how many, but for the few of each class that are always among them. groups: the same for copies of a photo; a
    second copy of one comes after the first copies of all. digests: each image's own sha256. balance: as many different
    photos of each class as there are and fit, for the rarest classes decide how much is known.
    """
    n = min(len(groups), most)
    by_content = sorted(range(len(groups)), key=lambda i: (groups[i], digests[i] if digests else b""))
    rank_in_class = _rank_in_class(groups, labels, n_classes)
    copy = np.zeros(len(groups), np.int64)
    for before, i in itertools.pairwise(by_content):
        copy[i] = copy[before] + 1 if groups[i] == groups[before] else 0
    by_content.sort(key=lambda i: (copy[i], rank_in_class[i] if balance else 0))
    rows = {*by_content[:n], *np.flatnonzero((rank_in_class < FEW_PER_CLASS) & (copy == 0)).tolist()}
    return np.array(sorted(rows), np.int64)


def _rank_in_class(groups: Sequence[bytes], labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Which of the different photos of its class each image is, from 0, in the order of hashes; of its rarest label."""
    rank = np.full(len(groups), len(groups))
    for of_class in members(labels, n_classes):  # a class of a few photos must not be missed, nor all but copies of one
        rank_of_group = {group: j for j, group in enumerate(sorted({groups[i] for i in of_class.tolist()}))}
        rank[of_class] = np.minimum(rank[of_class], [rank_of_group[groups[i]] for i in of_class.tolist()])
    return rank
