"""Coordinates of standardised codes in which heads are fitted fast: fewer numbers an image, and a preconditioner for them.

Takes rows and the columns that each member of a mean of heads reads; gives each member its coordinates. It decides in which
space is searched: of few images the span of their rows, in which nothing is lost; of many the codes themselves, but for wide
parts of them, the deep layers', of which the span of some images' rows has to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

from headstart.heads.scaling import BLOCK, StandardisedRows

FEW_ROWS = 1_000  # up to which the span of all rows is searched
N_SPANNING = 1_024  # rows whose span has to do for a wide part of more rows
WIDE = 1_536  # columns from which on a part is wide
N_SAMPLED, N_AXES = 512, 256  # rows that the Hessian is taken from, of many, and the directions that are taken from it
FAR = 1_000.0  # times a strength: as far another one's inverse serves as well

Rows: TypeAlias = np.ndarray | StandardisedRows


class Coordinates:
    """The rows as a member's fit takes them, (n, d') float32, and an approximate inverse of its Hessian."""

    def __init__(self, rows: np.ndarray, weight: Callable[[np.ndarray], np.ndarray]) -> None:
        """weight: turns (d', k) of the coordinates into (d, k) of the member's codes."""
        self.rows, self.weight = rows, weight
        self._inverse: tuple[float, np.ndarray] | None = None
        if len(rows) <= FEW_ROWS:
            self._gram = rows.T @ rows / np.float32(max(1, len(rows)))
        else:
            self._axes, self._variances, self._rest = _main_axes(rows[_sampled(len(rows), N_SAMPLED)])

    def whitener(self, l2: float, curvature: float) -> Callable[[np.ndarray], np.ndarray]:
        """Make the function that multiplies (d' + 1, p, k) by the approximate inverse of curvature · Gram + l2.

        It takes the correlations out of the codes, which plain L-BFGS needs hundreds of passes to learn.
        """
        multiply = (self._by_inverse if len(self.rows) <= FEW_ROWS else self._by_axes)(l2, curvature)

        def whiten(gradient: np.ndarray) -> np.ndarray:
            d, p, k = gradient.shape
            step = np.empty_like(gradient)
            step[:-1] = multiply(gradient[:-1].reshape(d - 1, p * k)).reshape(d - 1, p, k)
            step[-1] = gradient[-1] / np.float32(curvature)
            return step

        return whiten

    def _by_inverse(self, l2: float, curvature: float) -> Callable[[np.ndarray], np.ndarray]:
        """An inverse, not a factor: solving with one is SciPy's, whose threads fight with NumPy's for the same cores."""
        if self._inverse is None or not 1 / FAR < self._inverse[0] / l2 < FAR:
            hessian = np.float32(curvature) * self._gram
            hessian.flat[:: len(hessian) + 1] += np.float32(l2 + 1e-6 * (1 + np.trace(hessian) / max(1, len(hessian))))
            self._inverse = l2, np.linalg.inv(hessian)
        inverse = self._inverse[1]
        return lambda gradient: inverse @ gradient

    def _by_axes(self, l2: float, curvature: float) -> Callable[[np.ndarray], np.ndarray]:
        """Exact along the main axes, one number for all else (Nyström preconditioning: Frangella, Tropp & Udell 2023)."""
        rest = np.float32(1 / (curvature * self._rest + l2))
        along = (1 / (curvature * self._variances + l2)).astype(np.float32) - rest
        axes = self._axes
        return lambda gradient: rest * gradient + axes @ (along[:, None] * (axes.T @ gradient))


class _Part(NamedTuple):
    """The columns from start to end, as they are fitted. spanning: rows in whose span they are searched, with the Cholesky
    factor of their products, and its inverse; None: as they are."""

    start: int
    end: int
    spanning: np.ndarray | None = None
    root: np.ndarray | None = None
    inverse: np.ndarray | None = None

    @property
    def is_projected(self) -> bool:
        """Whether the coordinates are others than the codes."""
        return self.spanning is not None

    @property
    def n_columns(self) -> int:
        """The number of coordinates."""
        return self.end - self.start if self.spanning is None else len(self.spanning)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The coordinates of some rows."""
        part = rows[:, self.start : self.end]
        if self.spanning is None or self.inverse is None:
            return part
        return (part @ self.spanning.T) @ self.inverse.T

    def weight(self, solution: np.ndarray) -> np.ndarray:
        """(d', k) of the coordinates as (d, k) of the columns: spanningᵀ · L⁻ᵀ · solution."""
        if self.spanning is None or self.root is None:
            return solution
        return self.spanning.T @ np.linalg.solve(self.root.T, solution.astype(np.float64)).astype(np.float32)


def coordinates_of(rows: Rows, columns: Sequence[tuple[int, int]]) -> list[Coordinates]:
    """The coordinates of (n, d) rows for each member, which reads the columns from start to end."""
    if len(rows) <= FEW_ROWS:
        rows = rows[:]
        return [
            _in_span(rows[:, start:end], products) if len(rows) < end - start else _as_they_are(rows[:, start:end])
            for (start, end), products in zip(columns, _products(rows, columns), strict=True)
        ]
    ends = sorted({end for member in columns for end in member})
    parts = [_part(rows, start, end) for start, end in pairwise(ends)]
    joined = _joined(rows, parts)
    places = dict(zip(ends, np.cumsum([0, *(part.n_columns for part in parts)]).tolist(), strict=True))
    coordinates = []
    for start, end in columns:
        own = parts[ends.index(start) : ends.index(end)]
        coordinates.append(Coordinates(joined[:, places[start] : places[end]], _weights_of(own)))
    return coordinates


def _joined(rows: Rows, parts: Sequence[_Part]) -> np.ndarray:
    """The parts' coordinates side by side, (n, d') float32, without a copy of all rows."""
    if isinstance(rows, np.ndarray) and not any(part.is_projected for part in parts):
        return rows[:, parts[0].start : parts[-1].end]
    joined = np.empty((len(rows), sum(part.n_columns for part in parts)), np.float32)
    for first in range(0, len(rows), BLOCK):
        block, place = rows[first : first + BLOCK], 0
        for part in parts:
            joined[first : first + BLOCK, place : place + part.n_columns] = part.of(block)
            place += part.n_columns
    return joined


def _weights_of(parts: Sequence[_Part]) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function that turns coordinates of several parts into their codes' weights."""
    ends = np.cumsum([part.n_columns for part in parts])[:-1]
    return lambda solution: np.vstack([part.weight(own) for part, own in zip(parts, np.split(solution, ends), strict=True)])


def _as_they_are(rows: np.ndarray) -> Coordinates:
    return Coordinates(rows, lambda solution: solution)


def _in_span(rows: np.ndarray, products: np.ndarray) -> Coordinates:
    """Coordinates L in the space that n rows span, rows · rowsᵀ = L · Lᵀ: n numbers instead of d, and nothing is lost."""
    root = _root_of(products)
    return Coordinates(root.astype(np.float32), _Part(0, rows.shape[1], rows, root).weight)


def _part(rows: Rows, start: int, end: int) -> _Part:
    """Columns of many rows: those of a wide part projected into the span of some rows, which costs no accuracy that was
    measured (docs/LOG.md)."""
    if end - start <= WIDE:
        return _Part(start, end)
    spanning = np.ascontiguousarray(rows[_sampled(len(rows), N_SPANNING)][:, start:end])
    root = _root_of(spanning @ spanning.T)
    return _Part(start, end, spanning, root, np.linalg.inv(root).astype(np.float32))


def _products(rows: np.ndarray, columns: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The (n, n) inner products of the rows in some columns; those that go on where the last ones ended add to them."""
    last, total = (-1, -1), np.zeros((0, 0), np.float32)
    for start, end in columns:
        goes_on = start == last[0] and end >= last[1]
        part = rows[:, last[1] if goes_on else start : end]
        total = total + part @ part.T if goes_on else part @ part.T
        last = (start, end)
        yield total


def _sampled(n: int, most: int) -> np.ndarray:
    """Positions of rows, evenly spread."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def _root_of(products: np.ndarray) -> np.ndarray:
    """The Cholesky factor L of products = L · Lᵀ, float64."""
    products = products.astype(np.float64)
    # Rows that repeat each other leave the products without a root; what is added weighs less than any l2 that is tried.
    for little in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        products.flat[:: len(products) + 1] += little * max(float(np.trace(products)) / max(1, len(products)), 1e-12)
        try:
            return np.linalg.cholesky(products)
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("codes that are not finite have no root")


def _main_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The axes that (m, d) rows reach furthest along, (d, a), their variances, (a,), and the mean variance of the rest."""
    m, d = rows.shape
    squares, turns = np.linalg.eigh(rows @ rows.T)
    largest = np.argsort(squares)[::-1][: min(N_AXES, d)]
    largest = largest[squares[largest] > 1e-6 * max(float(squares[-1]), 1e-12)]
    axes = rows.T @ (turns[:, largest] / np.sqrt(squares[largest])).astype(np.float32)
    variances = squares[largest].astype(np.float64) / m
    rest = max(0.0, float(squares.sum()) / m - float(variances.sum())) / max(1, d - len(largest))
    return axes, variances, rest
