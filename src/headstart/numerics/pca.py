"""Principal axes: the directions along which codes differ most, by randomised subspace iteration.

Rows in, orthogonal axes out, the longest first. It decides how exactly they are computed: all eigenvectors of 1,280 x 1,280
take 0.4 s, the first 128 so a twentieth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.numerics.losses import unit_rows

PASSES = 4
EXTRA = 10  # axes that are computed in addition, so that the first n_axes are exact


def first_axes(rows: np.ndarray, n_axes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Find the axes that (n, d) float32 rows reach furthest along from 0: (d, e) float32, and how far, (e,), longest first.

    e is n_axes, or fewer where there are fewer rows or codes. Randomised subspace iteration (Halko, Martinsson & Tropp 2011,
    algorithm 4.4), the same for the same seed; squared and divided by n, how far is the variance of centred rows.
    """
    n, d = rows.shape
    basis = np.random.default_rng(seed).standard_normal((d, min(n_axes + EXTRA, n, d)), np.float32)
    for _ in range(PASSES):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    lengths, turns = np.linalg.svd(rows @ basis, full_matrices=False)[1:]
    return (basis @ turns.T)[:, :n_axes], lengths[:n_axes]


ROWS_FOR_AXES = 10_000  # more do not turn the first axes by anything that a map would show
BLOCK = 2_048  # rows of codes at a time


def principal_axes(
    codes: np.ndarray, *, widths: Sequence[int] = (), n_axes: int = 50, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the axes that codes differ most along: space (n, e) float32, mean (d,) and axes (d, e) float32.

    codes: (n, d) of any float type; those of each layer (all as one, by default) are brought to length 1. e is n_axes, or
    fewer where there are fewer codes or photos. The axes are those of at most 10,000 photos, drawn by the seed
    (first_axes); an axis along which nothing differs is 0.
    """
    n, d = codes.shape
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(n, min(n, ROWS_FOR_AXES), replace=False))
    rows = _unit(codes[sample], widths)
    rows -= rows.mean(axis=0) if n else 0
    axes, lengths = first_axes(rows, n_axes, seed=seed)
    axes[:, lengths <= 1e-6 * np.sqrt(max(1, n))] = 0
    axes *= np.where(axes.sum(axis=0) < 0, np.float32(-1), np.float32(1))  # the same way round on every machine
    space, mean = np.empty((n, axes.shape[1]), np.float32), np.zeros(d)
    for start in range(0, n, BLOCK):
        block = _unit(codes[start : start + BLOCK], widths)
        mean += block.sum(axis=0, dtype=np.float64) / n
        space[start : start + BLOCK] = block @ axes
    space -= (mean @ axes).astype(np.float32)
    return space, mean.astype(np.float32), axes


def along_axes(codes: np.ndarray, mean: np.ndarray, axes: np.ndarray, *, widths: Sequence[int] = ()) -> np.ndarray:
    """Project codes of other photos, (m, d), into the space of principal_axes: (m, e) float32."""
    blocks = [(_unit(codes[i : i + BLOCK], widths) - mean) @ axes for i in range(0, len(codes), BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty((0, axes.shape[1]), np.float32)


def _unit(codes: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    return unit_rows(codes.astype(np.float32), widths or (codes.shape[1],))
