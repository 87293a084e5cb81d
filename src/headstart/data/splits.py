"""Deals images into train, validation and test splits and into cross-validation folds, by their content and a seed.

So adding, moving or renaming photos never moves another, and byte-identical images always share a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from headstart.data.labels import members

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNASSIGNED = -1
N_FOLDS = 5  # of every cross-validation
ONE_FOLD_FROM = 10_000  # images from which on one fold is held out: its standard error is small enough to choose by
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def assign_splits(
    assigned: np.ndarray, digests: Sequence[bytes], labels: np.ndarray, *, seed: int, validation: float, test: float
) -> np.ndarray:
    """Assign a split to each image that has none: (n,) int8, positions in SPLITS.

    assigned: (n,) the splits that the data gives, UNASSIGNED where it gives none. Each image draws a number in [0, 1) from
    its sha256 and the seed; the lowest `test` of them are the test split, the next `validation` the validation split. A
    split that the data gives gets no others. So shares are met on average in every class, and nothing that happens to one
    photo moves another. The one exception: of a class whose every image drew the test split, which could not be learnt at
    all, the image of the highest number is in train, with its copies in other classes.
    """
    splits = assigned.astype(np.int8).copy()
    is_drawn = np.isin(splits, (UNASSIGNED, TRAIN) if _has_split(assigned, TRAIN) else (UNASSIGNED,))
    test_share = 0.0 if _has_split(assigned, TEST) else test
    validation_share = 0.0 if _has_split(assigned, VALIDATION) else validation
    numbers = np.array([_draw_number(digest, seed) for digest in digests])
    splits[is_drawn] = TRAIN
    splits[is_drawn & (numbers < test_share + validation_share)] = VALIDATION
    splits[is_drawn & (numbers < test_share)] = TEST
    for of_class in members(labels, n_classes=int(labels.max(initial=0)) + 1):
        unlearnable = of_class[is_drawn[of_class]]
        if len(unlearnable) and (splits[of_class] == TEST).all():
            splits[is_drawn & (numbers == numbers[unlearnable].max())] = TRAIN
    return splits


def _has_split(splits: np.ndarray, split: int) -> bool:
    return bool((splits == split).any())


def _draw_number(digest: bytes, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"split {seed} ".encode() + digest).digest()[:8], "big") / 2**64


def leaks(splits: np.ndarray, digests: Sequence[bytes]) -> np.ndarray:
    """Find the images outside the test split whose very bytes are in it too: their positions, (m,) int64."""
    tested = {digest for digest, split in zip(digests, splits.tolist(), strict=True) if split == TEST}
    others = np.flatnonzero(splits != TEST)
    return np.array([i for i in others.tolist() if digests[i] in tested], np.int64)


def contradictions(labels: np.ndarray, digests: Sequence[bytes]) -> list[list[int]]:
    """Find the images that have, byte for byte the same, more than one label: the positions of each."""
    places: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        places.setdefault(digest, []).append(i)
    return [same for same in places.values() if len(np.unique(labels[same], axis=0)) > 1]


def content_folds(digests: Sequence[bytes] | Sequence[int], labels: np.ndarray, n_folds: int = N_FOLDS) -> np.ndarray:
    """Deal each class's images into folds in the order of their hashes: stratified, and the same however images or classes
    are named or ordered, but for a group of copies with several labels, which is dealt with the first of them.

    labels: (n,), or (n, k) of 0 and 1, of which every combination that occurs is dealt by itself.
    """
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    fold = np.zeros(len(labels), np.int64)
    of_image: dict[bytes | int, int] = {}
    # Each class begins at another fold, or the first ones would get what is left over of all of them. Which class begins
    # where is decided by hashes, not by its place in the alphabet.
    dealt: dict[int, int] = {}
    for i in sorted(range(len(labels)), key=lambda i: (digests[i], labels[i])):
        label = int(labels[i])
        if digests[i] not in of_image:
            of_image[digests[i]] = dealt.setdefault(label, len(dealt)) % n_folds
            dealt[label] += 1
        fold[i] = of_image[digests[i]]
    return fold
