"""Heads without training: the nearest class mean, and the k nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.heads.head import Head, log_votes
from headstart.heads.scaling import Standardised

FAR = np.float32(-1e4)  # the score of a class without images
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
        means = members.T @ self.rows[:] / np.maximum(members.sum(axis=0), 1)[:, None]
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
        """Give the rows that may vote, how many of them do, and their votes."""
        weights = np.ones(len(self.rows), np.float32) if weights is None else weights.astype(np.float32)
        voters = np.flatnonzero(weights)
        return voters, min(int(strength), len(voters)), self.votes[voters] * weights[voters, None]

    def logits(self, solution: tuple[np.ndarray, int, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The logarithms of the shares, (m, k)."""
        voters, n_neighbours, votes = solution
        weight, bias = self._layer(voters)
        return log_votes(self.rows[rows] @ weight + bias, votes, n_neighbours)

    def _layer(self, voters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closeness to each of the voters: x · row - |row|² / 2, the nearest highest."""
        near = self.rows[voters]
        return near.T, -np.einsum("nd,nd->n", near, near) / 2

    def head(self, solution: tuple[np.ndarray, int, np.ndarray]) -> Head:
        """The solution as a Head that holds all those rows."""
        voters, n_neighbours, votes = solution
        return Head((self.unscaled(*self._layer(voters)),), self.widths, "votes", votes, n_neighbours)
