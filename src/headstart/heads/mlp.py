"""A multilayer perceptron on codes: one hidden layer with dropout and mixup, learnt by AdamW in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from headstart.engines.hardware import available_cores
from headstart.heads.head import Head
from headstart.heads.scaling import BLOCK, Standardised
from headstart.numerics.losses import sigmoid, softmax

HIDDEN, BATCH, STEPS, FEWEST_EPOCHS = 512, 256, 1500, 12
RATE, DECAY, BETA1, BETA2, EPSILON = 1e-3, 0.02, 0.9, 0.999, 1e-8
SMOOTHING, MIXED = 0.05, 0.3  # the last for mixup (Zhang et al. 2018): 0.2 points of CIFAR-10
DROPPED_OF_256 = 51  # a fifth of the codes
FEW_BLOCKS = 8
COLUMNS, ROWS = 1024, 256  # of a block, so that what is read and written together stays in a core's cache


class HiddenLayer(Standardised):
    """One hidden layer of ReLUs with dropout (Srivastava et al. 2014) before the softmax, learnt by AdamW.

    Worth trying from some thousand images on: CIFAR-10's deeper codes gain two points by it (docs/LOG.md).
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """As SoftmaxRegression; several labels an image are told by sigmoids."""
        super().__init__(codes, widths)
        if len(codes) > BLOCK:  # in half the memory; a batch is read as f32
            halves = np.empty(codes.shape, np.float16)
            for start in range(0, len(codes), BLOCK):
                halves[start : start + BLOCK] = self.rows[start : start + BLOCK]
            self.rows = halves
        self.labels, self.n_classes = labels, n_classes

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3
    ) -> tuple[np.ndarray, ...]:
        """Learn; strength: the share of hidden numbers that are dropped. A start and a tolerance are of no use here."""
        weights = np.ones(len(self.rows), np.float32) if weights is None else weights.astype(np.float32)
        return _fit_hidden_layer(self.rows, self._targets, weights, strength, is_one_label=self.labels.ndim == 1)

    @property
    def _targets(self) -> np.ndarray:
        return self.labels if self.labels.ndim == 2 else np.eye(self.n_classes, dtype=np.float32)[self.labels]

    def logits(self, solution: tuple[np.ndarray, ...], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows."""
        first, bias, second, last = solution
        some = self.rows[rows]
        blocks = (some[start : start + BLOCK].astype(np.float32) for start in range(0, max(1, len(some)), BLOCK))
        return np.concatenate([np.maximum(block @ first + bias, 0) @ second + last for block in blocks])

    def head(self, solution: tuple[np.ndarray, ...]) -> Head:
        """The solution as a Head of two layers."""
        first, bias, second, last = solution
        return Head(
            (self.unscaled(first, bias), (second, last)), self.widths, "sigmoid" if self.labels.ndim == 2 else "softmax"
        )


def _fit_hidden_layer(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, dropout: float, *, is_one_label: bool
) -> tuple[np.ndarray, ...]:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and cosine; the seed is fixed, so the same rows give the same head."""
    random = np.random.Generator(np.random.PCG64(0))
    used = np.flatnonzero(weights)
    n, (d, k) = len(used), (rows.shape[1], targets.shape[1])
    batch = max(1, min(BATCH, n // 4))
    n_steps, mean_weight = max(STEPS, FEWEST_EPOCHS * n // batch), float(weights[used].mean())
    parameters = [
        random.standard_normal((d, HIDDEN), np.float32) * np.float32(np.sqrt(2 / d)),  # He et al. 2015
        np.zeros(HIDDEN, np.float32),
        random.standard_normal((HIDDEN, k), np.float32) * np.float32(np.sqrt(1 / HIDDEN)),
        np.zeros(k, np.float32),
    ]
    order = np.empty(0, np.int64)
    with ThreadPoolExecutor(available_cores()) as pool:
        optimizer = _AdamW(parameters, pool)
        for step in range(n_steps):
            if len(order) < batch:
                order = random.permutation(used)
            these, order = order[:batch], order[batch:]
            others = these[::-1]
            share = np.float32(random.beta(MIXED, MIXED))
            x = _mixture(rows, these, others, share, random, pool)
            hidden = np.maximum(x @ parameters[0] + parameters[1], 0)
            hidden *= (random.random(hidden.shape, np.float32) >= dropout) / np.float32(1 - dropout)
            logits = hidden @ parameters[2] + parameters[3]
            # Each half of a mixture counts as its own image does: with the first one's weight for both, a rare class would
            # lend half of its weight to the common one.
            first, second = weights[these, None], weights[others, None]
            counts = second + share * (first - second)
            mixture = share * first * targets[these] + (1 - share) * second * targets[others]
            smooth = mixture * np.float32(1 - SMOOTHING) + counts * np.float32(SMOOTHING / (k if is_one_label else 2))
            errors = (softmax(logits) if is_one_label else sigmoid(logits)) * counts - smooth
            errors *= np.float32(1 / (batch * mean_weight))
            back = (errors @ parameters[2].T) * (hidden > 0) / np.float32(1 - dropout)
            gradients = [x.T @ back, back.sum(axis=0), hidden.T @ errors, errors.sum(axis=0)]
            warm = min(1.0, (step + 1) / (0.1 * n_steps))
            optimizer.step(gradients, RATE * warm * 0.5 * (1 + np.cos(np.pi * step / n_steps)))
    return tuple(parameters)


def _mixture(
    rows: np.ndarray,
    these: np.ndarray,
    others: np.ndarray,
    share: np.float32,
    random: np.random.Generator,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Mix a batch's rows with others, and drop some of the numbers: a byte of chance each. In blocks of columns, which stay
    in a core's cache; the number of threads changes nothing."""
    m, d = len(these), rows.shape[1]
    chance = np.frombuffer(random.bytes(m * d), np.uint8).reshape(m, d)
    mixed = np.empty((m, d), np.float32)

    def mix(start: int) -> None:
        columns = slice(start, start + COLUMNS)
        x, other = rows[these, columns].astype(np.float32), rows[others, columns].astype(np.float32)
        x -= other
        x *= share
        x += other
        x *= chance[:, columns] >= DROPPED_OF_256
        np.multiply(x, np.float32(256 / (256 - DROPPED_OF_256)), out=mixed[:, columns])

    starts = range(0, d, COLUMNS)
    list((pool.map if len(starts) > 1 else map)(mix, starts))
    return mixed


class _AdamW:
    """Changes parameters in place, matrices with weight decay; in blocks of rows, as _mixture does."""

    def __init__(self, parameters: list[np.ndarray], pool: ThreadPoolExecutor) -> None:
        self._parameters, self._pool = parameters, pool
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._n_steps = 0

    def step(self, gradients: list[np.ndarray], rate: float) -> None:
        self._n_steps += 1
        unbiased = rate * np.sqrt(1 - BETA2**self._n_steps) / (1 - BETA1**self._n_steps)
        blocks: list[tuple[np.ndarray, ...]] = [
            tuple(array[start : start + ROWS] for array in arrays)
            for arrays in zip(self._parameters, gradients, self._first, self._second, strict=True)
            for start in range(0, len(arrays[0]), ROWS)
        ]
        each = self._pool.map if len(blocks) > FEW_BLOCKS else map  # waking threads costs more than a few blocks do
        list(each(lambda block: _change(block, rate, unbiased), blocks))


def _change(block: tuple[np.ndarray, ...], rate: float, unbiased: float) -> None:
    """A step of AdamW for some of the parameters, in place; their gradients are used up."""
    p, g, first, second = block
    first *= np.float32(BETA1)
    first += np.float32(1 - BETA1) * g
    second *= np.float32(BETA2)
    g *= g
    second += np.float32(1 - BETA2) * g
    if p.ndim == 2:
        p *= np.float32(1 - rate * DECAY)
    root = np.sqrt(second, out=g)
    root += np.float32(EPSILON)
    np.divide(first, root, out=root)
    root *= np.float32(unbiased)
    p -= root
