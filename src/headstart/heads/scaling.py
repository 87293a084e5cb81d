"""Standardised codes, which all heads learn from, and the way back from a layer on them to one on codes.

It decides how much each code counts before anything is learnt; and, of fewer rows than codes, the space that is searched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

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


class Span:
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
