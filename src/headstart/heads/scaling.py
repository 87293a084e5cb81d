"""Standardised codes, which all heads learn from, and the way back from a layer on them to one on codes.

It decides how much each code counts before anything is learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.numerics.losses import unit_rows

BLOCK = 4_096  # rows that are standardised at a time: more are never held in f32 all at once


class StandardisedRows:
    """Standardised codes, (n, d) float32, made of the codes whenever some rows of them are asked for, as of an array."""

    def __init__(self, codes: np.ndarray, widths: Sequence[int], mean: np.ndarray, scale: np.ndarray) -> None:
        """codes: (n, d) of any float type, which are held and not copied; mean, scale: (d,), see Standardised."""
        self.shape = codes.shape
        self._codes, self._widths, self._mean, self._scale = codes, widths, mean, scale

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._codes)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some of the rows, (m, d) float32."""
        some = unit_rows(self._codes[rows].astype(np.float32), self._widths)
        some -= self._mean
        some /= self._scale
        return some


class Standardised:
    """Codes standardised for learning, and the way back.

    Each part of a row is brought to length 1, every number is centred, each part is scaled to the same variance, and then
    each number's variance is drawn halfway to that: plain standardising makes as much of a code that hardly ever fires as
    of any other, none at all overrates the loud ones; halfway is never the worst (benchmarks/scaling.py).

    rows: (n, d) float32; of more than BLOCK images, StandardisedRows.
    """

    def __init__(self, codes: np.ndarray, widths: Sequence[int] = ()) -> None:
        """codes: (n, d) of any float type; widths: see Head, by default one."""
        self.widths = tuple(widths) or (codes.shape[1],)
        self.rows: Any
        if len(codes) > BLOCK:
            self.mean, variance = _moments(codes, self.widths)
            self.scale = self.scales(variance, self.widths)
            self.rows = StandardisedRows(codes, self.widths, self.mean, self.scale)
            return
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


def _moments(codes: np.ndarray, widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of each code, (d,) float32, once its parts have length 1; block by block, added up as Chan,
    Golub & LeVeque 1983 do."""
    n, mean, squares = 0, np.zeros(codes.shape[1]), np.zeros(codes.shape[1])
    for start in range(0, len(codes), BLOCK):
        block = unit_rows(codes[start : start + BLOCK].astype(np.float32), widths)
        m, of_block = len(block), block.mean(axis=0, dtype=np.float64)
        block -= of_block.astype(np.float32)
        apart = of_block - mean
        squares += np.einsum("ij,ij->j", block, block) + apart**2 * (n * m / (n + m))
        mean += apart * (m / (n + m))
        n += m
    return mean.astype(np.float32), (squares / n).astype(np.float32)
