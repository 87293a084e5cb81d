"""Softmax regression by gradient descent on random batches, step by step, as retrain.py learnt its last layer.

Takes rows of codes and labels; yields the weights after each step that is asked for. What is drawn is seeded, so that the
same photos give the same weights; in the old script they were drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headstart.heads.scaling import Standardised
from headstart.numerics.losses import losses

SPREAD = 0.001  # of the first weights: a normal distribution, cut at two of it


class Step(NamedTuple):
    """What is known after a step. batch: the rows that it learnt from."""

    number: int
    weight: np.ndarray
    bias: np.ndarray
    batch: np.ndarray


@dataclass(frozen=True)
class Batches:
    """Rows of a split, class by class. Like the old script it draws a class first, so that rare ones count as much."""

    of_class: Sequence[np.ndarray]
    size: int  # -1: every row once

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Rows of a batch, (size,) int64."""
        classes = [rows for rows in self.of_class if len(rows)]
        if self.size < 0 or not classes:
            return np.sort(np.concatenate([np.empty(0, np.int64), *classes]))
        chosen = random.integers(0, len(classes), self.size)
        places = random.random(self.size)
        return np.array([classes[i][int(x * len(classes[i]))] for i, x in zip(chosen, places, strict=True)], np.int64)


def learn(
    data: Standardised, labels: np.ndarray, n_classes: int, batches: Batches, *, steps: int, rate: float, seed: int = 0
) -> Iterator[Step]:
    """Take steps of plain gradient descent on the mean cross entropy of a batch; yields a Step after each, whose arrays the
    next one changes.

    data: rows (n, d) of all photos and views; labels: (n,) of them.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    width = data.rows.shape[1]
    weight = (np.clip(random.standard_normal((width, n_classes)), -2, 2) * SPREAD).astype(np.float32)
    bias = np.zeros(n_classes, np.float32)
    targets = np.eye(n_classes, dtype=np.float32)
    for number in range(steps):
        batch = batches.draw(random)
        rows = data.rows[batch]
        scores = rows @ weight + bias
        scores -= scores.max(axis=1, keepdims=True)
        errors = np.exp(scores)
        errors /= errors.sum(axis=1, keepdims=True)
        errors -= targets[labels[batch]]
        errors *= np.float32(rate / len(batch))
        weight -= rows.T @ errors
        bias -= errors.sum(axis=0)
        yield Step(number, weight, bias, batch)


def judge(data: Standardised, labels: np.ndarray, step: Step, rows: np.ndarray) -> tuple[float, float]:
    """The accuracy and the mean cross entropy on some of the rows."""
    logits = data.rows[rows] @ step.weight + step.bias
    right = logits.argmax(axis=1) == labels[rows]
    return float(right.mean()), float(losses(logits, labels[rows]).mean())
