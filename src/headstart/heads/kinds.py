"""The kinds of heads, a row of HEADS each: softmax and sigmoid regression, a hidden layer, class means, nearest neighbours.

To add a kind, add a row; nothing else needs to know its name. A row needs:

- `fitter`: a class as Fitter says, made as fitter(codes, labels, n_classes, widths) with codes (n, d), labels (n,) or (n, k)
  and widths as in Head; with `is_averaged` also members (heads.logistic.Member). It standardises the codes once
  (heads.scaling.Standardised), for it is fitted once for each fold that is held out and each strength that is tried.
- `strengths`: of its regularisation, the simplest answer first (the strongest l2, the most neighbours); cross-validation
  chooses one of them.
- `about`: a few words for people.
- claims, where they are not the default: see HeadKind.

Its solution must come out of `head` as a Head, which is all that a classifier's file can hold; tests/contracts/test_heads.py
holds every row to this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headstart.heads.head import Head
from headstart.heads.logistic import Member, SigmoidRegression, SoftmaxRegression
from headstart.heads.mlp import HiddenLayer
from headstart.heads.nearest import ClassMeans, Neighbours


class Fitter(Protocol):
    """A head to be learnt: codes standardised once, then fitted often.

    rows: (n, d') the codes as they are learnt from.
    """

    rows: np.ndarray

    def fit(self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3) -> Any:
        """Learn from the rows whose weights (n,) are above 0, each as its weight says; gives a solution, of any type.

        strength: of the regularisation. start: the solution of another strength to start from. tolerance: the relative gain
        at which a fit by steps may stop. The same arguments give the same solution.
        """

    def fit_folds(
        self, strength: float, weights: np.ndarray, *, starts: Sequence[Any] | None = None, tolerance: float = 1e-3
    ) -> list[Any]:
        """Fit once for each row of weights (p, n), as fit would; starts: a solution to start from for each."""

    def logits(self, solution: Any, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows under a solution."""

    def head(self, solution: Any) -> Head:
        """The solution as a Head on codes that are not standardised."""


@dataclass(frozen=True)
class HeadKind:
    """A kind of head.

    is_walked: a walk along the strengths finds the best, as the held-out cross entropy falls to it and then rises; else all
    are tried. can_have_many_labels: it takes (n, k) labels. has_steps: its fit takes `watch`, a function that is called with
    the solution at the start and after each step. is_weaker_for_more: its best strength falls as 1 / sqrt(n) with n images.
    is_slow: a fit takes minutes. is_averaged: of codes of several layers or backbones, it is the mean of a head for each.
    """

    name: str
    fitter: Callable[..., Fitter]
    strengths: tuple[float, ...]
    about: str
    is_walked: bool = True
    can_have_many_labels: bool = False
    has_steps: bool = False
    is_weaker_for_more: bool = False
    is_slow: bool = False
    is_averaged: bool = False


HALF_DECADES = tuple(float(f"{10.0 ** (2 - i / 2):.3g}") for i in range(17))  # from 100 down to 1e-6
HEADS = {
    kind.name: kind
    for kind in (
        HeadKind(
            "softmax",
            SoftmaxRegression,
            HALF_DECADES,
            "softmax regression",
            has_steps=True,
            is_weaker_for_more=True,
            is_averaged=True,
        ),
        HeadKind(
            "sigmoid",
            SigmoidRegression,
            HALF_DECADES,
            "a sigmoid a class: two classes, or several labels an image",
            can_have_many_labels=True,
            has_steps=True,
            is_weaker_for_more=True,
            is_averaged=True,
        ),
        HeadKind(
            "hidden", HiddenLayer, (0.5,), "a hidden layer of ReLUs with dropout", can_have_many_labels=True, is_slow=True
        ),
        HeadKind(
            "class-mean", ClassMeans, (0.3, 0.1, 0.03, 0.01, 0.003), "the nearest class mean, for a few images a class"
        ),
        # A walk would stay at one neighbour: from there the balanced cross entropy rises before it falls.
        HeadKind("nearest", Neighbours, (30, 20, 10, 5, 3, 1), "the k nearest images", is_walked=False),
    )
}
MANY_LABELS = tuple(kind.name for kind in HEADS.values() if kind.can_have_many_labels)


def make_fitter(
    kind: str,
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    widths: Sequence[int] = (),
    members: Sequence[Member] = (),
) -> Fitter:
    """Make the fitter of a kind of head; members: see logistic.Member, for a kind that averages."""
    row = HEADS[kind]
    if row.is_averaged and members:
        return row.fitter(codes, labels, n_classes, widths, members)  # type: ignore[no-any-return]
    return row.fitter(codes, labels, n_classes, widths)  # type: ignore[no-any-return]
