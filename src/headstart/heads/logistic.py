"""Logistic regression on codes, as softmax over classes or as a sigmoid for each class, with l2 regularisation.

Fitted by preconditioned L-BFGS, for this shape of problem: many rows, codes of length 1,000 or so, strongly correlated, and
several strengths of regularisation to try on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headstart.errors import HeadstartError
from headstart.heads.head import Head
from headstart.heads.lbfgs import minimise
from headstart.heads.scaling import Span, Standardised
from headstart.numerics.losses import sigmoid

FEW_ROWS = 5_000


class SoftmaxRegression(Standardised):
    """Multinomial logistic regression.

    The loss is the weighted mean of the cross entropy plus l2 / 2 · |weight|², with the weight in standardised units.
    """

    output = "softmax"

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """codes: (n, d) of any float type. labels: (n,) whole numbers below n_classes."""
        super().__init__(codes, widths)
        self.labels, self.n_classes = labels, n_classes
        # With fewer rows than codes the solution lies in the span of the rows, so the problem is turned into it: the
        # coordinates are n long instead of d, and nothing is lost.
        self._span = Span(self.rows) if len(self.rows) < self.rows.shape[1] else None
        if self._span:
            self.rows = self._span.coordinates
        self._gram = self.rows.T @ self.rows / np.float32(max(1, len(self.rows)))
        self._last_whitener = (-1.0, self._gram)

    @property
    def _curvature(self) -> float:
        """The second derivative of the loss at zero, for each unit of the codes' variance."""
        return (1 - 1 / self.n_classes) / self.n_classes

    def fit(
        self,
        strength: float,
        *,
        weights: np.ndarray | None = None,
        start: np.ndarray | None = None,
        tolerance: float = 1e-3,
        watch: Callable[[np.ndarray], None] = lambda _: None,
    ) -> np.ndarray:
        """Minimise the loss; gives (d' + 1, k) float32 coordinates that the other methods take, the bias last.

        strength: the loss's l2. weights: (n,) how much each row counts; rows of weight 0 are held out. start: an earlier
        answer to begin at. tolerance: stop where the next step promises to lower the loss by less than this part of it.
        watch: called with the coordinates at the start and after each step.
        """
        weights = np.ones(len(self.labels), np.float32) if weights is None else weights.astype(np.float32)
        weights = weights / weights.sum()
        start = np.zeros((self.rows.shape[1] + 1, self.n_classes), np.float32) if start is None else start
        return minimise(self._objective(weights, strength), start, self._preconditioner(strength), tolerance, watch)

    def logits(self, solution: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""
        return self.rows[rows] @ solution[:-1] + solution[-1]

    def head(self, solution: np.ndarray) -> Head:
        """The solution as a Head on codes as they are."""
        weight = solution[:-1] if self._span is None else self._span.weight(solution[:-1])
        weight, bias = self.unscaled(weight, solution[-1])
        if self.output == "softmax":
            bias = bias - bias.mean()
        return Head(((weight, bias),), self.widths, self.output)

    def _objective(self, weights: np.ndarray, l2: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        def loss_and_gradient(solution: np.ndarray) -> tuple[float, np.ndarray]:
            loss, scores = self._loss_and_errors(self.logits(solution), weights)
            loss += l2 / 2 * float(np.vdot(solution[:-1], solution[:-1]))
            gradient = np.empty_like(solution)
            np.matmul(self.rows.T, scores, out=gradient[:-1])
            gradient[:-1] += np.float32(l2) * solution[:-1]
            gradient[-1] = scores.sum(axis=0)
            return loss, gradient

        return loss_and_gradient

    def _loss_and_errors(self, scores: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The weighted loss of scores (n, k), and its derivative by them, in place."""
        each = np.arange(len(self.labels))
        scores -= scores.max(axis=1, keepdims=True)
        of_label = scores[each, self.labels]
        np.exp(scores, out=scores)
        totals = scores.sum(axis=1)
        loss = float(np.dot(weights, np.log(totals) - of_label))
        scores *= (weights / totals)[:, None]
        scores[each, self.labels] -= weights
        return loss, scores

    def _whitener(self, l2: float) -> np.ndarray:
        """The inverse of the Hessian at zero, curvature · Gram + l2: it takes the correlations out of the codes, which plain
        L-BFGS needs hundreds of passes to learn.

        An inverse, not a factor: solving with one is SciPy's, whose threads fight with NumPy's for the same cores (flowers:
        3.3 s instead of 0.1 s).
        """
        # That of another l2 serves as well, at more passes: with many rows a pass costs more, with few an inverse does.
        far = 4 if len(self.rows) > FEW_ROWS else 1000
        if not 1 / far < self._last_whitener[0] / l2 < far:
            hessian = np.float32(self._curvature) * self._gram
            hessian.flat[:: len(hessian) + 1] += np.float32(l2 + 1e-6 * (1 + np.trace(hessian) / len(hessian)))
            self._last_whitener = l2, np.linalg.inv(hessian)
        return self._last_whitener[1]

    def _preconditioner(self, l2: float) -> Callable[[np.ndarray], np.ndarray]:
        whitener = self._whitener(l2)

        def whiten(gradient: np.ndarray) -> np.ndarray:
            step = np.empty_like(gradient)
            np.matmul(whitener, gradient[:-1], out=step[:-1])
            step[-1] = gradient[-1] / np.float32(self._curvature)
            return step

        return whiten


class SigmoidRegression(SoftmaxRegression):
    """Logistic regression of each class by itself: for several labels an image, and for two classes.

    labels: (n, k) of 0 and 1; or (n,) below 2, for which the head tells one score from 0.
    """

    output = "sigmoid"

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """Check the labels as well; raises HeadstartError for one label an image of more than two classes."""
        if labels.ndim == 1 and n_classes != 2:
            raise HeadstartError(
                f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes, one an "
                "image: use softmax"
            )
        self.is_of_two = labels.ndim == 1
        targets = labels[:, None] if self.is_of_two else labels
        super().__init__(codes, targets.astype(np.float32), targets.shape[1], widths)

    @property
    def _curvature(self) -> float:
        return 0.25

    def _loss_and_errors(self, scores: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss = float(np.dot(weights, (np.logaddexp(0, scores) - self.labels * scores).sum(axis=1)))
        return loss, (sigmoid(scores) - self.labels) * weights[:, None]

    def logits(self, solution: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows; of two classes the first has 0."""
        scores = super().logits(solution, rows)
        return np.hstack([np.zeros_like(scores), scores]) if self.is_of_two else scores

    def _objective(self, weights: np.ndarray, l2: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        objective = super()._objective
        if not self.is_of_two:
            return objective(weights, l2)
        plain = SigmoidRegression.__new__(SigmoidRegression)
        plain.__dict__.update(self.__dict__, is_of_two=False)
        return plain._objective(weights, l2)

    def head(self, solution: np.ndarray) -> Head:
        """The solution as a Head; softmax over (0, score) is the sigmoid of the score."""
        head = super().head(solution)
        if not self.is_of_two:
            return head
        ((weight, bias),) = head.layers
        return Head(((np.hstack([0 * weight, weight]), np.array([0, bias[0]], np.float32)),), self.widths, "softmax")
