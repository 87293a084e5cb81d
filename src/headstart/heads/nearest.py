"""Heads without training: the nearest class mean, and the k nearest images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.heads.head import Head, log_votes
from headstart.heads.scaling import Standardised

FAR = np.float32(-1e4)  # the score of a class that nothing is known of
MOST_NEIGHBOURS = 20_000  # images, all of whose codes the k-nearest head carries along


class ClassMeans(Standardised):
    """The nearest class mean (Mensink et al. 2013), for a few images a class; its scores are -|x - mean|² / (2 · strength ·
    d).

    That is linear in x, but for |x|², which is the same for every class.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """As SoftmaxRegression."""
        super().__init__(codes, widths)
        self.labels, self.n_classes = labels, n_classes

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Average; a class without any image is out of reach. No class counts more for its images, so a weight says only
        whether a row is learnt from."""
        weights = np.ones(len(self.rows), np.float32) if weights is None else weights.astype(np.float32)
        members = np.eye(self.n_classes, dtype=np.float32)[self.labels] * (weights > 0)[:, None]
        means = members.T @ self.rows / np.maximum(members.sum(axis=0), 1)[:, None]
        temperature = np.float32(strength * self.rows.shape[1])
        bias = -np.einsum("kd,kd->k", means, means) / (2 * temperature)
        bias[members.sum(axis=0) == 0] = FAR
        return (means / temperature).T, bias

    def logits(self, solution: tuple[np.ndarray, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Scores (m, k) of some of the rows."""
        return self.rows[rows] @ solution[0] + solution[1]

    def head(self, solution: tuple[np.ndarray, np.ndarray]) -> Head:
        """The solution as a Head."""
        return Head((self.unscaled(*solution),), self.widths)


class Neighbours(Standardised):
    """The k nearest images, and the share of them that has each class (Cover & Hart 1967); strength: k.

    A vote counts as much as its image's weight: balanced, that is the share that each class would have were all as common.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, n_classes: int, widths: Sequence[int] = ()) -> None:
        """As SoftmaxRegression; raises HeadstartError for more images than a classifier can carry along."""
        if len(codes) > MOST_NEIGHBOURS:
            raise HeadstartError(
                f"the k-nearest head carries the codes of all {len(codes):,} images along; it takes {MOST_NEIGHBOURS:,} at "
                "most: use softmax"
            )
        super().__init__(codes, widths)
        self.votes = np.eye(n_classes, dtype=np.float32)[labels]

    def fit(
        self, strength: float, *, weights: np.ndarray | None = None, start: Any = None, tolerance: float = 1e-3
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Give the rows that may be asked, how many of them are, and their votes."""
        weights = np.ones(len(self.rows), np.float32) if weights is None else weights.astype(np.float32)
        asked = np.flatnonzero(weights)
        return asked, min(int(strength), len(asked)), self.votes[asked] * weights[asked, None]

    def logits(self, solution: tuple[np.ndarray, int, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The logarithms of the shares, (m, k)."""
        asked, n_neighbours, votes = solution
        weight, bias = self._layer(asked)
        return log_votes(self.rows[rows] @ weight + bias, votes, n_neighbours)

    def _layer(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closeness to each of the rows asked: x · row - |row|² / 2, the nearest highest."""
        near = self.rows[asked]
        return near.T, -np.einsum("nd,nd->n", near, near) / 2

    def head(self, solution: tuple[np.ndarray, int, np.ndarray]) -> Head:
        """The solution as a Head that holds all those rows."""
        asked, n_neighbours, votes = solution
        return Head((self.unscaled(*self._layer(asked)),), self.widths, "votes", votes, n_neighbours)
