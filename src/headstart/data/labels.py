"""Labels as arrays: one class an image, (n,) int64, or several (multi-label), (n, k) uint8 of 0 and 1.

It decides the order of classes, and holds whatever has to tell the two kinds of labels apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

SEPARATOR = "|"  # between the labels of one image in a table
_NUMBERS = re.compile(r"(\d+)")


def encode(names: Sequence[str], *, are_several: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn the labels of a table into an array and the classes, in natural order.

    are_several: whether each holds several classes, with SEPARATOR between them. Gives (n,) int64 positions in the classes,
    or (n, k) uint8 of 0 and 1.
    """
    parts = [[part.strip() for part in name.split(SEPARATOR) if part.strip()] if are_several else [name] for name in names]
    classes = tuple(sorted({part for row in parts for part in row}, key=natural_key))
    position = {name: i for i, name in enumerate(classes)}
    if not are_several:
        return np.array([position[name] for name in names], np.int64), classes
    labels = np.zeros((len(names), len(classes)), np.uint8)
    for row, of_row in zip(labels, parts, strict=True):
        row[[position[part] for part in of_row]] = 1
    return labels, classes


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort `class 2` before `class 10`; upper and lower case together, ties by the name itself."""
    parts: list[Any] = _NUMBERS.split(name.casefold())  # text, digits, text, ...
    parts[1::2] = [(len(n), n) for n in (digits.lstrip("0") for digits in parts[1::2])]  # as text: of any length
    return parts, name


def are_many(labels: np.ndarray) -> bool:
    """Whether an image may have several labels, or none."""
    return labels.ndim == 2


def counts(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the images of each class, (k,)."""
    return labels.sum(axis=0, dtype=np.int64) if are_many(labels) else np.bincount(labels, minlength=n_classes)


def members(labels: np.ndarray, n_classes: int) -> Iterator[np.ndarray]:
    """Yield the positions of each class's images."""
    if are_many(labels):
        yield from (np.flatnonzero(column) for column in labels.T)
    else:
        order = np.argsort(labels, kind="stable")
        yield from np.split(order, np.searchsorted(labels[order], np.arange(1, n_classes)))


def only(labels: np.ndarray, is_kept: np.ndarray) -> np.ndarray:
    """Renumber labels for those classes that are kept; no image of one label may be of another class."""
    return labels[:, is_kept] if are_many(labels) else (np.cumsum(is_kept) - 1)[labels]


def label_text(label: np.ndarray, classes: Sequence[str]) -> str:
    """Write one image's label, or its labels with SEPARATOR between them, as a table has them."""
    if np.ndim(label) == 0:
        return classes[int(label)]
    return SEPARATOR.join(name for name, applies in zip(classes, label, strict=True) if applies)
