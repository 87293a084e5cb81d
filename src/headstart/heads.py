"""Heads: what is learnt on codes. Arrays in, arrays out.

Softmax regression (multinomial logistic regression) is fitted here by a quasi-Newton method of our own, made for this
shape of problem: many rows, codes of length 1,000 or so, strongly correlated, and several strengths of regularisation to
try on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MEMORY = 10  # pairs of steps that the quasi-Newton method remembers
MAX_STEPS = 300


@dataclass(frozen=True)
class Head:
    """Probabilities from codes: softmax(codes @ weight + bias).

    weight: (d, k) float32. bias: (k,) float32. Both are for the codes as they are; scaling has been folded in.
    """

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """Scores before the softmax: (n, d) codes of any float type to (n, k) float32."""
        return codes.astype(np.float32, copy=False) @ self.weight + self.bias

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes of any float type to (n, k) float32 rows that sum to 1."""
        return softmax(self.logits(codes))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of scores to rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights (n,) that make every class count the same, n / (k · n_class): King & Zeng 2001, as in scikit-learn."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1)))[labels].astype(np.float32)


class SoftmaxRegression:
    """One set of codes and labels, made ready for many fits: other rows held out, other strengths of regularisation.

    The loss is the weighted mean of the cross entropy plus l2 / 2 · |weight|², with the weight in standardised units.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
        """Standardise codes (n, d) of any float type; labels: (n,) whole numbers below n_classes."""
        self.labels = labels.astype(np.int64)
        self.n_classes = n_classes
        rows = codes.astype(np.float32)
        self.mean = rows.mean(axis=0)
        rows -= self.mean
        self.scale = self.scales(np.einsum("ij,ij->j", rows, rows) / max(1, len(rows)))
        rows /= self.scale
        # With fewer rows than codes the solution lies in the span of the rows, so the problem is turned into it: the
        # coordinates are n long instead of d, and nothing is lost.
        self.basis = _row_space(rows) if len(rows) < rows.shape[1] else None
        self.rows = rows if self.basis is None else rows @ self.basis
        self._gram = (self.rows.T @ self.rows).astype(np.float64) / max(1, len(rows))
        self._curvature = (1 - 1 / n_classes) / n_classes
        self._last_whitener = (-1.0, self._gram)

    @staticmethod
    def scales(variance: np.ndarray) -> np.ndarray:
        """What each code is divided by, (d,), from the codes' variances.

        Each variance is drawn halfway to their mean: plain standardising makes as much of a code that hardly ever fires as
        of any other, none at all overrates the loud ones; halfway is never the worst (benchmarks/scaling.py).
        """
        return np.sqrt(variance + variance.mean() + np.float32(1e-12))

    def fit(
        self, l2: float, *, weights: np.ndarray | None = None, start: np.ndarray | None = None, tolerance: float = 1e-3
    ) -> np.ndarray:
        """Minimise the loss; gives (d' + 1, k) float32 coordinates that the other methods take, the bias last.

        weights: (n,) how much each row counts; rows of weight 0 are held out. start: an earlier answer to begin at.
        tolerance: stop where the next step promises to lower the loss by less than this part of it.
        """
        weights = np.ones(len(self.labels), np.float32) if weights is None else weights.astype(np.float32)
        weights = weights / weights.sum()
        start = np.zeros((self.rows.shape[1] + 1, self.n_classes), np.float32) if start is None else start
        return _minimise(self._objective(weights, l2), start, self._preconditioner(l2), tolerance)

    def logits(self, solution: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""
        return self.rows[rows] @ solution[:-1] + solution[-1]

    def head(self, solution: np.ndarray) -> Head:
        """The solution as a Head on codes as they are."""
        weight = solution[:-1] if self.basis is None else self.basis @ solution[:-1]
        weight = (weight / self.scale[:, None]).astype(np.float32)
        bias = solution[-1] - self.mean @ weight
        return Head(weight, (bias - bias.mean()).astype(np.float32))

    def _objective(self, weights: np.ndarray, l2: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        each = np.arange(len(self.labels))

        def loss_and_gradient(solution: np.ndarray) -> tuple[float, np.ndarray]:
            scores = self.logits(solution)
            scores -= scores.max(axis=1, keepdims=True)
            of_label = scores[each, self.labels]
            np.exp(scores, out=scores)
            totals = scores.sum(axis=1)
            loss = float(np.dot(weights, np.log(totals) - of_label)) + l2 / 2 * float(np.vdot(solution[:-1], solution[:-1]))
            scores *= (weights / totals)[:, None]
            scores[each, self.labels] -= weights
            gradient = np.empty_like(solution)
            np.matmul(self.rows.T, scores, out=gradient[:-1])
            gradient[:-1] += np.float32(l2) * solution[:-1]
            gradient[-1] = scores.sum(axis=0)
            return loss, gradient

        return loss_and_gradient

    def _whitener(self, l2: float) -> np.ndarray:
        """The inverse of the Hessian at zero, (1/k)(1 - 1/k) · Gram + l2: it takes the correlations out of the codes, which
        plain L-BFGS needs hundreds of passes to learn.

        An inverse, not a factor: solving with one is SciPy's, whose threads fight with NumPy's for the same cores (flowers:
        3.3 s instead of 0.1 s).
        """
        if not 0.25 < self._last_whitener[0] / l2 < 4:  # that of half a decade away serves as well, and takes no 0.1 s
            hessian = self._curvature * self._gram
            hessian.flat[:: len(hessian) + 1] += l2 + 1e-7 * (1 + np.trace(hessian) / len(hessian))
            self._last_whitener = l2, np.linalg.inv(hessian).astype(np.float32)
        return self._last_whitener[1]

    def _preconditioner(self, l2: float) -> Callable[[np.ndarray], np.ndarray]:
        whitener = self._whitener(l2)

        def whiten(gradient: np.ndarray) -> np.ndarray:
            step = np.empty_like(gradient)
            np.matmul(whitener, gradient[:-1], out=step[:-1])
            step[-1] = gradient[-1] / np.float32(self._curvature)
            return step

        return whiten


def _row_space(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis (d, r) of the space that (n, d) rows span, r <= n < d."""
    values, vectors = np.linalg.eigh(rows.astype(np.float64) @ rows.T.astype(np.float64))
    kept = values > max(values.max(initial=0.0) * 1e-10, 1e-12)
    if not kept.any():  # every row the same: nothing to learn from, one direction stands for all
        return np.eye(rows.shape[1], 1, dtype=np.float32)
    return (rows.T @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(np.float32)


class _Step(NamedTuple):
    """A step that was made, what it changed in the gradient, the same whitened, and the inverse of their product."""

    moved: np.ndarray
    turned: np.ndarray
    whitened: np.ndarray
    inverse: float


def _minimise(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    whiten: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
) -> np.ndarray:
    """Preconditioned L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with a backtracking line search (Armijo)."""
    x, (loss, gradient) = start, objective(start)
    whitened = whiten(gradient)
    steps: list[_Step] = []
    for _ in range(MAX_STEPS):
        direction = -_two_loops(gradient, whitened, steps)
        slope = float(np.vdot(gradient, direction))
        if -slope <= tolerance * max(loss, 1e-3):
            break
        length = 1.0
        while True:
            candidate = x + np.float32(length) * direction
            new_loss, new_gradient = objective(candidate)
            if new_loss <= loss + 1e-4 * length * slope or length < 1e-4:
                break
            length *= 0.3
        if not new_loss < loss:  # rounding: no step lowers the loss any more
            break
        new_whitened = whiten(new_gradient)
        moved, turned = candidate - x, new_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 0:
            steps = [*steps[1 - MEMORY :], _Step(moved, turned, new_whitened - whitened, 1 / curvature)]
        x, loss, gradient, whitened = candidate, new_loss, new_gradient, new_whitened
    return x


def _two_loops(gradient: np.ndarray, whitened: np.ndarray, steps: list[_Step]) -> np.ndarray:
    """The quasi-Newton direction. Whitening is linear, so it is carried along instead of being done again here."""
    q, whitened = gradient.copy(), whitened.copy()
    shares = []
    for step in reversed(steps):
        share = np.float32(step.inverse * float(np.vdot(step.moved, q)))
        q -= share * step.turned
        whitened -= share * step.whitened
        shares.append(share)
    if steps:
        last = steps[-1]
        whitened *= np.float32(1 / (last.inverse * max(float(np.vdot(last.turned, last.whitened)), 1e-30)))
    for step, share in zip(steps, reversed(shares), strict=True):
        whitened += (share - np.float32(step.inverse * float(np.vdot(step.turned, whitened)))) * step.moved
    return whitened
