"""Axes: the directions that rows of codes differ most along.

Rows in, orthogonal axes out, the longest first. It decides how exactly they are found: all eigenvectors of 1,280 x 1,280
take 0.4 s, the first 128 so a twentieth.
"""

from __future__ import annotations

import numpy as np

PASSES = 4
EXTRA = 10  # axes that are found besides, so that those which are wanted come out right


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
