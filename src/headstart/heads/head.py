"""A head: probabilities from codes, and what is asked of them: how wrong, how often right. Arrays in, arrays out.

It decides how scores become probabilities, and what every way of learning a head (headstart.heads) is measured by.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST_LENGTH = 1e-6  # of a row of codes; a shorter one is divided by this
VOTE = 0.05  # what each class has in votes before any neighbour is asked, so that none is impossible


@dataclass(frozen=True)
class Head:
    """Probabilities from codes.

    layers: (weight (d, m) float32, bias (m,) float32) each, with a ReLU between them. parts: how the d numbers divide into
    the codes of single layers of the backbone, each of which is brought to length 1 first; () leaves them as they are.
    output: `softmax` (one label an image), `sigmoid` (any number of labels) or `votes`. votes: (n, k) float32, how much
    each of the n images that the layer compares with counts, in the column of its class, and n_neighbours, how many of them
    are asked; else None.
    temperature: what logits are divided by, so that probabilities mean what they say (headstart.calibration).
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    parts: tuple[int, ...] = ()
    output: str = "softmax"
    votes: np.ndarray | None = None
    n_neighbours: int = 0
    temperature: float = 1.0

    @property
    def n_classes(self) -> int:
        """How many probabilities it gives."""
        return int(self.layers[-1][1].size if self.votes is None else self.votes.shape[1])

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """Scores before the output: (n, d) codes of any float type to (n, k) float32."""
        x = unit_rows(codes.astype(np.float32), self.parts)
        for i, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ weight + bias
        return x if self.votes is None else log_votes(x, self.votes, self.n_neighbours)

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes of any float type to (n, k) float32; rows sum to 1, but for `sigmoid`."""
        return self.output_of(self.logits(codes))

    def output_of(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) from scores, at the head's temperature."""
        return OUTPUTS[self.output](logits / np.float32(self.temperature))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of scores to rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * logits))).astype(logits.dtype)


# Votes are logarithms of shares: softmax gives the shares back.
OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid, "votes": softmax}


def unit_rows(rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
    """Bring each part of each row to length 1, in place: (n, d) float32, parts that add up to d."""
    for start, end in itertools.pairwise((0, *itertools.accumulate(parts))):
        part = rows[:, start:end]
        part /= np.maximum(np.sqrt(np.einsum("ij,ij->i", part, part)), SMALLEST_LENGTH)[:, None]
    return rows


def log_votes(closeness: np.ndarray, votes: np.ndarray, n_neighbours: int) -> np.ndarray:
    """The logarithm of the share of the nearest images that has each class."""
    nearest = np.argpartition(-closeness, n_neighbours - 1, axis=1)[:, :n_neighbours]
    shares = votes[nearest].sum(axis=1) + np.float32(VOTE)
    return np.log(shares / shares.sum(axis=1, keepdims=True))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross entropy of each image, (n,) in nats: labels (n,) are classes, (n, k) say of each class whether it applies."""
    if labels.ndim == 2:
        return (np.logaddexp(0, logits) - labels * logits).sum(axis=1)
    highest = logits.max(axis=1, keepdims=True)
    of_label = np.take_along_axis(logits - highest, labels[:, None], axis=1)[:, 0]
    return np.log(np.exp(logits - highest).sum(axis=1)) - of_label


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image's highest score is that of its label; with several labels, whether each of them is told rightly."""
    return ((logits > 0) == labels).all(axis=1) if labels.ndim == 2 else logits.argmax(axis=1) == labels


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights (n,) that make every class count the same, n / (k · n_class): King & Zeng 2001, as in scikit-learn."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1)))[labels].astype(np.float32)


def counted_weights(labels: np.ndarray, *, is_balanced: bool) -> np.ndarray:
    """How much each image counts, (n,) float32: all the same or, balanced and of one label each, every class the same."""
    if not is_balanced or labels.ndim == 2 or not len(labels):
        return np.ones(len(labels), np.float32)
    return balanced_weights(labels, int(labels.max()) + 1)
