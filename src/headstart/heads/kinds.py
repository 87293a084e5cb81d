"""Heads: the ways of learning one on codes, a row of HEADS each.

All have one contract: made of codes and labels once, then `fit` as often as there are folds held out and strengths to try.
Here is the table, with the two that only look at which images are near; the others have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headstart.heads.head import Head
from headstart.heads.logistic import SigmoidRegression, SoftmaxRegression
from headstart.heads.mlp import HiddenLayer
from headstart.heads.nearest import ClassMeans, Neighbours


class Fitter(Protocol):
    """The contract of HEADS: rows of codes made ready once, then fitted often."""

    rows: np.ndarray

    def fit(self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3) -> Any:
        """Learn from the rows whose weights (n,) are above 0, each as its weight says; gives what the other methods take."""

    def logits(self, solution: Any, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""

    def head(self, solution: Any) -> Head:
        """The solution as a Head on codes as they are."""


@dataclass(frozen=True)
class HeadKind:
    """A way of learning a head. strengths: of its regularisation, the simplest answer first, from which one is chosen.

    is_walked: whether a walk along them finds the best, as the held-out cross entropy falls to it and then rises; else all
    of them are tried.
    """

    name: str
    fitter: Callable[..., Fitter]
    strengths: tuple[float, ...]
    about: str
    is_walked: bool = True


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
        # A walk would stay at one neighbour: from there the balanced cross entropy rises before it falls.
        HeadKind("nearest", Neighbours, (30, 20, 10, 5, 3, 1), "the k nearest images", is_walked=False),
    )
}
