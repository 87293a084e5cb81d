"""Labels: one class an image, (n,) int64, or several, (n, k) uint8 of 0 and 1. All that has to tell the two apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

SEPARATOR = "|"  # between the labels of one image in a table


def are_many(labels: np.ndarray) -> bool:
    """Whether an image may have several labels, or none."""
    return labels.ndim == 2


def counts(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """How many images each class has, (k,)."""
    return labels.sum(axis=0, dtype=np.int64) if are_many(labels) else np.bincount(labels, minlength=n_classes)


def members(labels: np.ndarray, n_classes: int) -> Iterator[np.ndarray]:
    """The positions of each class's images."""
    if are_many(labels):
        yield from (np.flatnonzero(column) for column in labels.T)
    else:
        order = np.argsort(labels, kind="stable")
        yield from np.split(order, np.searchsorted(labels[order], np.arange(1, n_classes)))


def only(labels: np.ndarray, is_kept: np.ndarray) -> np.ndarray:
    """The labels as positions among the classes that are kept; no image of one label may be of another class."""
    return labels[:, is_kept] if are_many(labels) else (np.cumsum(is_kept) - 1)[labels]


def named(label: np.ndarray, classes: Sequence[str]) -> str:
    """One image's label, or its labels, as a table has them."""
    if np.ndim(label) == 0:
        return classes[int(label)]
    return SEPARATOR.join(name for name, applies in zip(classes, label, strict=True) if applies)
