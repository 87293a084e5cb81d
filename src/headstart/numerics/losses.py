"""Softmax and sigmoid, cross entropy, which predictions are right, and weights of images.

Arrays in, arrays out. It decides how scores become probabilities, and how images of rare classes are weighted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

SMALLEST_LENGTH = 1e-6  # of a row of codes; a shorter one is divided by this


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn rows of scores into rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * logits))).astype(logits.dtype)


# Votes are logarithms of shares: softmax gives the shares back.
OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid, "votes": softmax}


def unit_rows(rows: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Bring the codes of each layer in each row to length 1, in place: (n, d) float32, widths that add up to d."""
    for start, end in itertools.pairwise((0, *itertools.accumulate(widths))):
        part = rows[:, start:end]
        part /= np.maximum(np.sqrt(np.einsum("ij,ij->i", part, part)), SMALLEST_LENGTH)[:, None]
    return rows


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross entropy of each image, (n,) in nats: labels (n,) are classes, (n, k) say of each class whether it applies."""
    if labels.ndim == 2:
        return (np.logaddexp(0, logits) - labels * logits).sum(axis=1)
    highest = logits.max(axis=1, keepdims=True)
    of_label = np.take_along_axis(logits - highest, labels[:, None], axis=1)[:, 0]
    return np.log(np.exp(logits - highest).sum(axis=1)) - of_label


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image's highest score is that of its label; with several labels, whether every one of them is right."""
    return ((logits > 0) == labels).all(axis=1) if labels.ndim == 2 else logits.argmax(axis=1) == labels


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights (n,) that make every class count the same, n / (k · n_class): King & Zeng 2001, as in scikit-learn."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1)))[labels].astype(np.float32)


def counted_weights(labels: np.ndarray, *, is_balanced: bool) -> np.ndarray:
    """The weight of each image, (n,) float32: 1, or, balanced and of one label each, equal sums for all classes."""
    if not is_balanced or labels.ndim == 2 or not len(labels):
        return np.ones(len(labels), np.float32)
    return balanced_weights(labels, int(labels.max()) + 1)
