"""Logistic regression on codes, as softmax over classes or as a sigmoid for each class, with l2 regularisation.

Where codes come from several layers or backbones, it is a mean of regressions, each on the codes of some of them. Fitted by
preconditioned L-BFGS, for this shape of problem: many rows, codes of length 1,000 or so, strongly correlated, several folds
that are held out of the same rows, and several strengths of regularisation to try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from headstart.errors import HeadstartError
from headstart.heads.coordinates import coordinates_of
from headstart.heads.head import Head
from headstart.heads.lbfgs import minimise
from headstart.heads.scaling import Standardised
from headstart.numerics.losses import sigmoid


class Member(NamedTuple):
    """A regression that is averaged with others: the codes that it reads, from start to end, and its share in the mean."""

    start: int
    end: int
    share: float = 1.0


class SoftmaxRegression(Standardised):
    """Multinomial logistic regression, or the mean of several.

    The loss of each is the weighted mean of the cross entropy plus l2 / 2 · |weight|², with the weight in standardised
    units. Their scores are averaged, which is the mean of their log probabilities but for a constant an image; so the mean
    of linear heads is a linear head.
    """

    output = "softmax"

    def __init__(
        self,
        codes: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        widths: Sequence[int] = (),
        members: Sequence[Member] = (),
    ) -> None:
        """codes: (n, d) of any float type. labels: (n,) whole numbers below n_classes. members: by default one, of all."""
        super().__init__(codes, widths)
        self.labels, self.n_classes = labels, n_classes
        self.members = tuple(members) or (Member(0, codes.shape[1]),)
        self._parts = coordinates_of(self.rows, [(member.start, member.end) for member in self.members])

    @property
    def _curvature(self) -> float:
        """The second derivative of the loss at zero, for each unit of the codes' variance."""
        return (1 - 1 / self.n_classes) / self.n_classes

    def fit(
        self,
        strength: float,
        *,
        weights: np.ndarray | None = None,
        start: tuple[np.ndarray, ...] | None = None,
        tolerance: float = 1e-3,
        watch: Callable[[tuple[np.ndarray, ...]], None] = lambda _: None,
    ) -> tuple[np.ndarray, ...]:
        """Minimise the loss; gives (d' + 1, k) float32 coordinates a member, the bias last, which the other methods take.

        strength: the loss's l2. weights: (n,) how much each row counts; rows of weight 0 are held out. start: an earlier
        answer to begin at. tolerance: stop where the next step promises to lower the loss by less than this part of it.
        watch: called with the coordinates at the start and after each step; of one member alone.
        """
        weights = np.ones(len(self.labels), np.float32) if weights is None else weights
        starts = None if start is None else [start]
        (solution,) = self.fit_folds(strength, weights[None], starts=starts, tolerance=tolerance, watch=watch)
        return solution

    def fit_folds(
        self,
        strength: float,
        weights: np.ndarray,
        *,
        starts: Sequence[tuple[np.ndarray, ...]] | None = None,
        tolerance: float = 1e-3,
        watch: Callable[[tuple[np.ndarray, ...]], None] = lambda _: None,
    ) -> list[tuple[np.ndarray, ...]]:
        """Fit once for each row of weights (p, n), side by side: each pass over the codes serves all. Else as fit."""
        weights = weights.astype(np.float32).T
        weights = np.ascontiguousarray(weights / weights.sum(axis=0))
        solutions = []
        for i, part in enumerate(self._parts):
            width = part.rows.shape[1] + 1
            start = np.zeros((width, weights.shape[1], self._n_scores), np.float32)
            if starts is not None:
                start = np.stack([solution[i] for solution in starts], axis=1)
            note = (lambda x: watch((x[:, 0],))) if len(self._parts) == 1 else (lambda _: None)
            whiten = part.whitener(strength, self._curvature)
            solutions.append(minimise(self._objective(part.rows, weights, strength), start, whiten, tolerance, note))
        return [tuple(solution[:, fold] for solution in solutions) for fold in range(weights.shape[1])]

    def logits(self, solution: tuple[np.ndarray, ...], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""
        shares = np.array([member.share for member in self.members], np.float32)
        return np.tensordot(shares / shares.sum(), self.scores_of_members(solution, rows), 1)

    def scores_of_members(self, solution: tuple[np.ndarray, ...], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores of each member, (members, m, k)."""
        return np.stack([part.rows[rows] @ x[:-1] + x[-1] for part, x in zip(self._parts, solution, strict=True)])

    def head(self, solution: tuple[np.ndarray, ...]) -> Head:
        """The solution as a Head on codes as they are."""
        total = sum(member.share for member in self.members)
        weight = np.zeros((self.rows.shape[1], self._n_scores), np.float32)
        bias = np.zeros(self._n_scores, np.float32)
        for member, part, x in zip(self.members, self._parts, solution, strict=True):
            weight[member.start : member.end] += np.float32(member.share / total) * part.weight(x[:-1])
            bias += np.float32(member.share / total) * x[-1]
        weight, bias = self.unscaled(weight, bias)
        if self.output == "softmax":
            bias = bias - bias.mean()
        return Head(((weight, bias),), self.widths, self.output)

    @property
    def _n_scores(self) -> int:
        return self.n_classes

    def _objective(
        self, rows: np.ndarray, weights: np.ndarray, l2: float
    ) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """The losses and gradients of p fits on the same (n, d) rows; weights: (n, p)."""

        def losses_and_gradients(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            d, p, k = x.shape
            scores = (rows @ x[:-1].reshape(d - 1, p * k)).reshape(-1, p, k) + x[-1]
            values, errors = self._loss_and_errors(scores, weights)
            values = values + l2 / 2 * np.einsum("dpk,dpk->p", x[:-1], x[:-1], dtype=np.float64)
            gradient = np.empty_like(x)
            gradient[:-1] = (rows.T @ errors.reshape(len(errors), p * k)).reshape(d - 1, p, k)
            gradient[:-1] += np.float32(l2) * x[:-1]
            gradient[-1] = errors.sum(axis=0)
            return values, gradient

        return losses_and_gradients

    def _loss_and_errors(self, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weighted losses, (p,), of scores (n, p, k), and their derivatives by them, in place."""
        each = np.arange(len(self.labels))
        scores -= scores.max(axis=2, keepdims=True)
        of_label = scores[each, :, self.labels]
        np.exp(scores, out=scores)
        totals = scores.sum(axis=2)
        values = np.einsum("np,np->p", weights, np.log(totals) - of_label, dtype=np.float64)
        scores *= (weights / totals)[:, :, None]
        scores[each, :, self.labels] -= weights
        return values, scores


class SigmoidRegression(SoftmaxRegression):
    """Logistic regression of each class by itself: for several labels an image, and for two classes.

    labels: (n, k) of 0 and 1; or (n,) below 2, for which the head tells one score from 0.
    """

    output = "sigmoid"

    def __init__(
        self,
        codes: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        widths: Sequence[int] = (),
        members: Sequence[Member] = (),
    ) -> None:
        """Check the labels as well; raises HeadstartError for one label an image of more than two classes."""
        if labels.ndim == 1 and n_classes != 2:
            raise HeadstartError(
                f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes, one an "
                "image: use softmax"
            )
        self.is_of_two = labels.ndim == 1
        targets = labels[:, None] if self.is_of_two else labels
        super().__init__(codes, targets.astype(np.float32), n_classes, widths, members)

    @property
    def _curvature(self) -> float:
        return 0.25

    @property
    def _n_scores(self) -> int:
        return self.labels.shape[1]

    def _loss_and_errors(self, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        targets = self.labels[:, None]
        each = (np.logaddexp(0, scores) - targets * scores).sum(axis=2)
        values = np.einsum("np,np->p", weights, each, dtype=np.float64)
        return values, (sigmoid(scores) - targets) * weights[:, :, None]

    def scores_of_members(self, solution: tuple[np.ndarray, ...], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores of each member, (members, m, k); of two classes the first has 0."""
        scores = super().scores_of_members(solution, rows)
        return np.concatenate([np.zeros_like(scores), scores], axis=2) if self.is_of_two else scores

    def head(self, solution: tuple[np.ndarray, ...]) -> Head:
        """The solution as a Head; softmax over (0, score) is the sigmoid of the score."""
        head = super().head(solution)
        if not self.is_of_two:
            return head
        ((weight, bias),) = head.layers
        return Head(((np.hstack([0 * weight, weight]), np.array([0, bias[0]], np.float32)),), self.widths, "softmax")
