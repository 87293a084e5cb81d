"""Standardised codes, which all heads learn from, and the way back from a layer on them to one on codes.

It decides how much each code counts before anything is learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.numerics.losses import unit_rows


class Standardised:
    """Codes standardised for learning, and the way back.

    Each part of a row is brought to length 1, every number is centred, each part is scaled to the same variance, and then
    each number's variance is drawn halfway to that: plain standardising makes as much of a code that hardly ever fires as
    of any other, none at all overrates the loud ones; halfway is never the worst (benchmarks/scaling.py).
    """

    def __init__(self, codes: np.ndarray, widths: Sequence[int] = ()) -> None:
        """codes: (n, d) of any float type; widths: see Head, by default one."""
        self.widths = tuple(widths) or (codes.shape[1],)
        self.rows = unit_rows(codes.astype(np.float32), self.widths)
        self.mean = self.rows.mean(axis=0)
        self.rows -= self.mean
        self.scale = self.scales(np.einsum("ij,ij->j", self.rows, self.rows) / max(1, len(self.rows)), self.widths)
        self.rows /= self.scale

    def fit_folds(
        self, strength: float, weights: np.ndarray, *, starts: Sequence[Any] | None = None, tolerance: float = 1e-3
    ) -> list[Any]:
        """Fit once for each row of weights (p, n); see kinds.Fitter."""
        each = starts or [None] * len(weights)
        return [
            self.fit(strength, weights=w, start=start, tolerance=tolerance)  # type: ignore[attr-defined]
            for w, start in zip(weights, each, strict=True)
        ]

    @staticmethod
    def scales(variance: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        """What each code is divided by, (d,), from the codes' variances."""
        ends = itertools.pairwise((0, *itertools.accumulate(widths)))
        means = np.concatenate([np.full(end - start, variance[start:end].mean(), np.float32) for start, end in ends])
        return np.sqrt(variance + means + np.float32(1e-12))

    def unscaled(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A layer on standardised codes as one on codes whose parts have length 1."""
        weight = (weight / self.scale[:, None]).astype(np.float32)
        return weight, (bias - self.mean @ weight).astype(np.float32)
