"""Heads: what is learnt on codes. Arrays in, arrays out.

A Head is one or two layers; the ways of learning one are rows of HEADS, all with one contract: made of codes and labels
once, then `fit` as often as there are folds held out and strengths to try. Regressions are fitted by a quasi-Newton method
of our own, made for this shape of problem: many rows, codes of length 1,000 or so, strongly correlated, and several
strengths of regularisation to try on the same rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from headstart.errors import HeadstartError

MEMORY = 10  # pairs of steps that the quasi-Newton method remembers
MAX_STEPS = 300
SMALLEST_LENGTH = 1e-6  # of a row of codes; a shorter one is divided by this
VOTE = 0.05  # what each class has in votes before any neighbour is asked, so that none is impossible
MOST_NEIGHBOURS = 20_000  # images, all of whose codes the k-nearest head carries along


@dataclass(frozen=True)
class Head:
    """Probabilities from codes.

    layers: (weight (d, m) float32, bias (m,) float32) each, with a ReLU between them. parts: how the d numbers divide into
    the codes of single layers of the backbone, each of which is brought to length 1 first; () leaves them as they are.
    output: `softmax` (one label an image), `sigmoid` (any number of labels) or `votes`. votes: (n, k) float32, which class
    each of the n images that the layer compares with has, and n_neighbours, how many of them are asked; else None.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    parts: tuple[int, ...] = ()
    output: str = "softmax"
    votes: np.ndarray | None = None
    n_neighbours: int = 0

    @property
    def n_classes(self) -> int:
        """How many probabilities it gives."""
        return int(self.layers[-1][1].size if self.votes is None else self.votes.shape[1])

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """Scores before the output: (n, d) codes of any float type to (n, k) float32."""
        x = unit_rows(codes.astype(np.float32), self.parts)
        for i, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ weight + bias
        return x if self.votes is None else _log_votes(x, self.votes, self.n_neighbours)

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """(n, d) codes of any float type to (n, k) float32; rows sum to 1, but for `sigmoid`."""
        return OUTPUTS[self.output](self.logits(codes))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of scores to rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * logits))).astype(logits.dtype)


OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": softmax, "sigmoid": sigmoid, "votes": np.exp}


def unit_rows(rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
    """Bring each part of each row to length 1, in place: (n, d) float32, parts that add up to d."""
    for start, end in itertools.pairwise((0, *itertools.accumulate(parts))):
        part = rows[:, start:end]
        part /= np.maximum(np.sqrt(np.einsum("ij,ij->i", part, part)), SMALLEST_LENGTH)[:, None]
    return rows


def _log_votes(closeness: np.ndarray, votes: np.ndarray, n_neighbours: int) -> np.ndarray:
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


class Standardised:
    """Codes as all heads learn from them, and the way back.

    Each part of a row is brought to length 1, every number is centred, each part is scaled to the same variance, and then
    each number's variance is drawn halfway to that: plain standardising makes as much of a code that hardly ever fires as
    of any other, none at all overrates the loud ones; halfway is never the worst (benchmarks/scaling.py).
    """

    def __init__(self, codes: np.ndarray, parts: Sequence[int] = ()) -> None:
        """codes: (n, d) of any float type; parts: see Head, by default one."""
        self.parts = tuple(parts) or (codes.shape[1],)
        self.rows = unit_rows(codes.astype(np.float32), self.parts)
        self.mean = self.rows.mean(axis=0)
        self.rows -= self.mean
        self.scale = self.scales(np.einsum("ij,ij->j", self.rows, self.rows) / max(1, len(self.rows)), self.parts)
        self.rows /= self.scale

    @staticmethod
    def scales(variance: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """What each code is divided by, (d,), from the codes' variances."""
        ends = itertools.pairwise((0, *itertools.accumulate(parts)))
        means = np.concatenate([np.full(end - start, variance[start:end].mean(), np.float32) for start, end in ends])
        return np.sqrt(variance + means + np.float32(1e-12))

    def unscaled(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A layer on standardised codes as one on codes whose parts have length 1."""
        weight = (weight / self.scale[:, None]).astype(np.float32)
        return weight, (bias - self.mean @ weight).astype(np.float32)


class Fitter(Protocol):
    """The contract of HEADS: rows of codes made ready once, then fitted often."""

    rows: np.ndarray

    def fit(self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3) -> Any:
        """Learn from the rows whose weights (n,) are above 0; gives what the other methods take."""

    def logits(self, solution: Any, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""

    def head(self, solution: Any) -> Head:
        """The solution as a Head on codes as they are."""


class SoftmaxRegression(Standardised):
    """Multinomial logistic regression.

    The loss is the weighted mean of the cross entropy plus l2 / 2 · |weight|², with the weight in standardised units.
    """

    output = "softmax"

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, parts: Sequence[int] = ()) -> None:
        """codes: (n, d) of any float type. labels: (n,) whole numbers below n_classes."""
        super().__init__(codes, parts)
        self.labels, self.n_classes = labels, n_classes
        # With fewer rows than codes the solution lies in the span of the rows, so the problem is turned into it: the
        # coordinates are n long instead of d, and nothing is lost.
        self._span = _Span(self.rows) if len(self.rows) < self.rows.shape[1] else None
        if self._span:
            self.rows = self._span.coordinates
        self._gram = self.rows.T @ self.rows / np.float32(max(1, len(self.rows)))
        self._last_whitener = (-1.0, self._gram)

    @property
    def _curvature(self) -> float:
        """Of the loss where nothing is known yet, for each unit of the codes' variance."""
        return (1 - 1 / self.n_classes) / self.n_classes

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: np.ndarray | None = None, tolerance: float = 1e-3
    ) -> np.ndarray:
        """Minimise the loss; gives (d' + 1, k) float32 coordinates that the other methods take, the bias last.

        strength: the loss's l2. weights: (n,) how much each row counts; rows of weight 0 are held out. start: an earlier
        answer to begin at. tolerance: stop where the next step promises to lower the loss by less than this part of it.
        """
        weights = np.ones(len(self.labels), np.float32) if weights is None else weights.astype(np.float32)
        weights = weights / weights.sum()
        start = np.zeros((self.rows.shape[1] + 1, self.n_classes), np.float32) if start is None else start
        return _minimise(self._objective(weights, strength), start, self._preconditioner(strength), tolerance)

    def logits(self, solution: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""
        return self.rows[rows] @ solution[:-1] + solution[-1]

    def head(self, solution: np.ndarray) -> Head:
        """The solution as a Head on codes as they are."""
        weight = solution[:-1] if self._span is None else self._span.weight(solution[:-1])
        weight, bias = self.unscaled(weight, solution[-1])
        if self.output == "softmax":
            bias = bias - bias.mean()
        return Head(((weight, bias),), self.parts, self.output)

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
        # That of half a decade away serves as well, and takes no time: 0.1 s for 1,280 codes, seconds for all depths.
        if not 0.25 < self._last_whitener[0] / l2 < 4:
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

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, parts: Sequence[int] = ()) -> None:
        """Check the labels as well; raises HeadstartError for one label an image of more than two classes."""
        if labels.ndim == 1 and n_classes != 2:
            raise HeadstartError(
                f"a sigmoid head tells two classes apart, or several labels an image; here are {n_classes} classes, one an "
                "image: use softmax"
            )
        self.is_of_two = labels.ndim == 1
        targets = labels[:, None] if self.is_of_two else labels
        super().__init__(codes, targets.astype(np.float32), targets.shape[1], parts)

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
        return Head(((np.hstack([0 * weight, weight]), np.array([0, bias[0]], np.float32)),), self.parts, "softmax")


class HiddenLayer(Standardised):
    """One hidden layer of ReLUs with dropout (Srivastava et al. 2014) before the softmax, learnt by AdamW.

    Worth trying from some thousand images on: CIFAR-10's deeper codes gain two points by it (docs/LOG.md).
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, parts: Sequence[int] = ()) -> None:
        """As SoftmaxRegression; several labels an image are told by sigmoids."""
        super().__init__(codes, parts)
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
        return np.maximum(self.rows[rows] @ first + bias, 0) @ second + last

    def head(self, solution: tuple[np.ndarray, ...]) -> Head:
        """The solution as a Head of two layers."""
        first, bias, second, last = solution
        return Head(
            (self.unscaled(first, bias), (second, last)), self.parts, "sigmoid" if self.labels.ndim == 2 else "softmax"
        )


class ClassMeans(Standardised):
    """The nearest class mean (Mensink et al. 2013), for a few images a class; its scores are -|x - mean|² / (2 · strength ·
    d).

    That is linear in x, but for |x|², which is the same for every class.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, parts: Sequence[int] = ()) -> None:
        """As SoftmaxRegression."""
        super().__init__(codes, parts)
        self.labels, self.n_classes = labels, n_classes

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Average; a class without any image gets the mean of all."""
        weights = np.ones(len(self.rows), np.float32) if weights is None else weights.astype(np.float32)
        members = np.eye(self.n_classes, dtype=np.float32)[self.labels] * (weights > 0)[:, None]
        means = members.T @ self.rows / np.maximum(members.sum(axis=0), 1)[:, None]
        temperature = np.float32(strength * self.rows.shape[1])
        return (means / temperature).T, -np.einsum("kd,kd->k", means, means) / (2 * temperature)

    def logits(self, solution: tuple[np.ndarray, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows."""
        return self.rows[rows] @ solution[0] + solution[1]

    def head(self, solution: tuple[np.ndarray, np.ndarray]) -> Head:
        """The solution as a Head."""
        return Head((self.unscaled(*solution),), self.parts)


class Neighbours(Standardised):
    """The k nearest images, and the share of them that has each class (Cover & Hart 1967); strength: k."""

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, parts: Sequence[int] = ()) -> None:
        """As SoftmaxRegression; raises HeadstartError for more images than a classifier can carry along."""
        if len(codes) > MOST_NEIGHBOURS:
            raise HeadstartError(
                f"the k-nearest head carries the codes of all {len(codes):,} images along; it takes {MOST_NEIGHBOURS:,} at "
                "most: use softmax"
            )
        super().__init__(codes, parts)
        self.votes = np.eye(n_classes, dtype=np.float32)[labels]

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3
    ) -> tuple[np.ndarray, int]:
        """Give the rows that may be asked and how many of them are."""
        asked = np.arange(len(self.rows)) if weights is None else np.flatnonzero(weights)
        return asked, min(int(strength), len(asked))

    def logits(self, solution: tuple[np.ndarray, int], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The logarithms of the shares, (m, k)."""
        asked, n_neighbours = solution
        weight, bias = self._layer(asked)
        return _log_votes(self.rows[rows] @ weight + bias, self.votes[asked], n_neighbours)

    def _layer(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closeness to each of the rows asked: x · row - |row|² / 2, the nearest highest."""
        near = self.rows[asked]
        return near.T, -np.einsum("nd,nd->n", near, near) / 2

    def head(self, solution: tuple[np.ndarray, int]) -> Head:
        """The solution as a Head that holds all those rows."""
        asked, n_neighbours = solution
        return Head((self.unscaled(*self._layer(asked)),), self.parts, "votes", self.votes[asked], n_neighbours)


@dataclass(frozen=True)
class HeadKind:
    """A way of learning a head. strengths: of its regularisation, the simplest answer first, from which one is chosen."""

    name: str
    fitter: Callable[..., Fitter]
    strengths: tuple[float, ...]
    about: str


HALF_DECADES = tuple(float(f"{10.0 ** (2 - i / 2):.3g}") for i in range(17))  # from 100 down to 1e-6
HEADS = {
    kind.name: kind
    for kind in (
        HeadKind("softmax", SoftmaxRegression, HALF_DECADES, "softmax regression"),
        HeadKind("sigmoid", SigmoidRegression, HALF_DECADES, "a sigmoid a class: two classes, or several labels an image"),
        HeadKind("hidden", HiddenLayer, (0.5,), "a hidden layer of ReLUs with dropout"),
        HeadKind(
            "class-mean", ClassMeans, (0.3, 0.1, 0.03, 0.01, 0.003), "the nearest class mean, for a few images a class"
        ),
        HeadKind("nearest", Neighbours, (30, 20, 10, 5, 3, 1), "the k nearest images"),
    )
}


HIDDEN, BATCH, STEPS, FEWEST_EPOCHS = 512, 256, 1500, 12
RATE, DECAY, BETA1, BETA2, EPSILON = 1e-3, 0.02, 0.9, 0.999, 1e-8
SMOOTHING, INPUT_DROPOUT, MIXED = 0.05, 0.2, 0.3  # the last for mixup (Zhang et al. 2018): 0.2 points of CIFAR-10


def _fit_hidden_layer(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, dropout: float, *, is_one_label: bool
) -> tuple[np.ndarray, ...]:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and cosine; the seed is fixed, so the same rows give the same head."""
    random = np.random.Generator(np.random.PCG64(0))
    used = np.flatnonzero(weights)
    n, (d, k) = len(used), (rows.shape[1], targets.shape[1])
    batch = max(1, min(BATCH, n // 4))
    n_steps = max(STEPS, FEWEST_EPOCHS * n // batch)
    parameters = [
        random.standard_normal((d, HIDDEN), np.float32) * np.float32(np.sqrt(2 / d)),  # He et al. 2015
        np.zeros(HIDDEN, np.float32),
        random.standard_normal((HIDDEN, k), np.float32) * np.float32(np.sqrt(1 / HIDDEN)),
        np.zeros(k, np.float32),
    ]
    optimizer = _AdamW(parameters)
    order = np.empty(0, np.int64)
    for step in range(n_steps):
        if len(order) < batch:
            order = random.permutation(used)
        taken, order = order[:batch], order[batch:]
        share = np.float32(random.beta(MIXED, MIXED))
        x = share * rows[taken] + (1 - share) * rows[taken[::-1]]
        x *= (random.random(x.shape, np.float32) >= INPUT_DROPOUT) / np.float32(1 - INPUT_DROPOUT)
        hidden = np.maximum(x @ parameters[0] + parameters[1], 0)
        hidden *= (random.random(hidden.shape, np.float32) >= dropout) / np.float32(1 - dropout)
        logits = hidden @ parameters[2] + parameters[3]
        wanted = share * targets[taken] + (1 - share) * targets[taken[::-1]]
        smooth = wanted * np.float32(1 - SMOOTHING) + np.float32(SMOOTHING / (k if is_one_label else 2))
        errors = (softmax(logits) if is_one_label else sigmoid(logits)) - smooth
        errors *= (weights[taken] / weights[taken].sum())[:, None]
        back = (errors @ parameters[2].T) * (hidden > 0) / np.float32(1 - dropout)
        gradients = [x.T @ back, back.sum(axis=0), hidden.T @ errors, errors.sum(axis=0)]
        warm = min(1.0, (step + 1) / (0.1 * n_steps))
        optimizer.step(gradients, RATE * warm * 0.5 * (1 + np.cos(np.pi * step / n_steps)))
    return tuple(parameters)


class _AdamW:
    """Changes parameters in place, matrices with weight decay."""

    def __init__(self, parameters: list[np.ndarray]) -> None:
        self._parameters = parameters
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._n_steps = 0

    def step(self, gradients: list[np.ndarray], rate: float) -> None:
        self._n_steps += 1
        unbiased = rate * np.sqrt(1 - BETA2**self._n_steps) / (1 - BETA1**self._n_steps)
        for p, g, first, second in zip(self._parameters, gradients, self._first, self._second, strict=True):
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


class _Span:
    """The space that (n, d) rows span, n < d: coordinates L with rows · rowsᵀ = L · Lᵀ (Cholesky), and the way back.

    coordinates: (n, n) float32.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        products = (rows @ rows.T).astype(np.float64)
        # Rows that repeat each other leave the products without a root; what is added weighs less than any l2 that is tried.
        for little in (1e-6, 1e-5, 1e-4, 1e-3):
            products.flat[:: len(products) + 1] += little * max(float(np.trace(products)) / max(1, len(products)), 1e-12)
            try:
                self._factor = np.linalg.cholesky(products)
                break
            except np.linalg.LinAlgError:
                continue
        self.coordinates = self._factor.astype(np.float32)

    def weight(self, solution: np.ndarray) -> np.ndarray:
        """(n, k) of the coordinates as (d, k) of the codes: rowsᵀ · L⁻ᵀ · solution."""
        return self._rows.T @ np.linalg.solve(self._factor.T, solution.astype(np.float64)).astype(np.float32)


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
