"""Choices, each made on images that were held out from the fit that is judged.

Takes the codes and labels of train and validation; gives the head, and what was tried on the way. The test split never
comes here. It decides the strength of regularisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.heads import Head, SoftmaxRegression, balanced_weights, softmax

GRID = tuple(float(f"{10.0 ** (2 - i / 2):.3g}") for i in range(17))  # l2 from 100 down to 1e-6, half a decade apart
N_FOLDS = 5
FEW_NUMBERS = 4_000_000  # codes x images, below which one core learns the head
MANY_IMAGES = 10_000  # from here on one fold is held out: its standard error is small enough to choose by
TIE = 1e-3  # nats of held-out cross entropy that a weaker regularisation must gain


@dataclass(frozen=True)
class Trial:
    """One strength of regularisation and how its heads did on the images that were held out from them."""

    l2: float
    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """The head that was chosen, fitted on all the images, and why.

    held_out: (m,) int64, the rows that were held out in turn. probabilities: (m, k) float32, what the fits that had not
    seen them said. trials: all that was tried, strongest regularisation first.
    """

    head: Head
    l2: float
    held_out: np.ndarray
    probabilities: np.ndarray
    trials: tuple[Trial, ...]


def choose_head(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    *,
    balance: bool = False,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Choice:
    """Fit softmax regression with the regularisation that does best on held-out images.

    codes: (n, d). labels: (n,), positions of classes. digests: each image's sha256; byte-identical images share a fold.
    balance: let every class count the same. threads: cores that linear algebra may use. Five folds are held out in turn; of
    10,000 images or more, one.
    """
    with _blas_threads(threads, codes.size):
        return _choose_head(codes, labels, n_classes, digests, balance, progress)


def _choose_head(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    balance: bool,
    progress: Callable[[str, int, int], None],
) -> Choice:
    problem = SoftmaxRegression(codes, labels, n_classes)
    weights = balanced_weights(labels, n_classes) if balance else np.ones(len(labels), np.float32)
    fold = content_folds(digests, labels, N_FOLDS)
    folds = [fold == i for i in range(1 if len(labels) >= MANY_IMAGES else N_FOLDS)]
    folds = [held_out for held_out in folds if held_out.any() and not held_out.all()]
    held_out = np.concatenate([np.flatnonzero(f) for f in folds]) if folds else np.arange(0)
    tried: dict[int, tuple[float, np.ndarray, list[np.ndarray]]] = {}

    def attempt(i: int, warm: list[np.ndarray] | None) -> float:
        starts = warm or [None] * len(folds)  # type: ignore[list-item]
        solutions = [problem.fit(GRID[i], weights=weights * ~f, start=s) for f, s in zip(folds, starts, strict=True)]
        logits = np.concatenate([problem.logits(s, f) for f, s in zip(folds, solutions, strict=True)])
        tried[i] = _cross_entropy(logits, labels[held_out], weights[held_out]), logits, solutions
        progress("head", len(tried), 0)
        return tried[i][0]

    best = _descend(attempt, tried, _start(len(labels))) if folds else _start(len(labels))
    warm = tried[best][2][0] if tried else None
    solution = problem.fit(GRID[best], weights=weights, start=warm, tolerance=1e-4)
    trials = tuple(
        Trial(GRID[i], ce, float((z.argmax(1) == labels[held_out]).mean())) for i, (ce, z, _) in sorted(tried.items())
    )
    logits = tried[best][1] if tried else np.zeros((0, n_classes), np.float32)
    return Choice(problem.head(solution), GRID[best], held_out, softmax(logits), trials)


def _blas_threads(threads: int | None, n_numbers: int) -> AbstractContextManager[Any]:
    """Hold NumPy's linear algebra to the cores that we may use: by itself it does not know of cgroup limits.

    Small problems get one core. Its threads wait for each other actively, so where another program has a core they lose far
    more than they can gain: 1,457 x 1,280 codes took 1.1 s on two quiet cores and 20 to 40 s on two busy ones; on one core,
    1.9 s busy.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if n_numbers < FEW_NUMBERS else threads, user_api="blas")  # type: ignore[no-any-return]


def _start(n: int) -> int:
    """Where to begin looking: 0.03 to 0.3 was best for some hundred images, 0.003 for 50,000 (docs/LOG.md)."""
    return int(np.argmin(np.abs(np.log(GRID) - np.log(0.06 * np.sqrt(400 / max(n, 1))))))


def _descend(attempt: Callable[[int, list[np.ndarray] | None], float], tried: dict, start: int) -> int:  # type: ignore[type-arg]
    """Walk along the grid from `start`, stronger first, while the held-out cross entropy falls."""
    best, lowest = start, attempt(start, None)
    for step in (-1, 1):
        at = best
        while 0 <= at + step < len(GRID):
            value = attempt(at + step, tried[at][2])
            at += step
            # Stronger wins ties, weaker has to be better.
            if value > lowest - step * TIE:
                break
            best, lowest = at, min(value, lowest)
        if best != start:
            break
    return best


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    highest = logits.max(axis=1, keepdims=True)
    of_label = np.take_along_axis(logits - highest, labels[:, None], axis=1)[:, 0]
    losses = np.log(np.exp(logits - highest).sum(axis=1)) - of_label
    return float(np.average(losses, weights=weights))


def content_folds(digests: Sequence[bytes], labels: np.ndarray, n_folds: int) -> np.ndarray:
    """Deal each class's images into folds in the order of their hashes: stratified, and the same however they are named."""
    fold = np.zeros(len(labels), np.int64)
    of_image: dict[bytes, int] = {}
    # Each class begins at another fold, or the first ones would get what is left over of all of them.
    dealt = np.arange(int(labels.max(initial=0)) + 1)
    for i in sorted(range(len(labels)), key=lambda i: (labels[i], digests[i])):
        if digests[i] not in of_image:
            of_image[digests[i]] = int(dealt[labels[i]]) % n_folds
            dealt[labels[i]] += 1
        fold[i] = of_image[digests[i]]
    return fold
