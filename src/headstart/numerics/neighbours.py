"""Nearest neighbours: the rows of codes that are most similar to each row, exactly, by cosine similarity."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

NEIGHBOURS_BLOCK = 256  # rows of distances at a time: 60 MB with 60,000 photos


def nearest_neighbours(
    rows: np.ndarray, among: np.ndarray, k: int, *, threads: int, is_same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of `among` to each row, nearest first: (n, k) int32 positions and (n, k) float64 distances.

    Exact, and faster than asking trees: 60,000 rows of 50 take 17 s of a core, where 50 of Annoy's trees find 96 % in 36 s.
    is_same: the rows are `among`, and none is its own neighbour.
    """
    from threadpoolctl import threadpool_limits

    half = np.einsum("ij,ij->i", among, among) / 2
    nearest, distances = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))

    def search(start: int) -> None:
        some = rows[start : start + NEIGHBOURS_BLOCK]
        far = half - some @ among.T
        each = np.arange(len(some))
        if is_same:
            far[each, start + each] = np.inf
        # Values are partitioned several times as fast as positions are.
        kth = np.partition(far, k - 1, axis=1)[:, k - 1, None]
        row, column = np.nonzero(far <= kth)
        found = column[np.searchsorted(row, each)[:, None] + np.arange(k)]
        exact = np.sqrt(((some[:, None] - among[found]) ** 2).sum(axis=2))
        order = np.argsort(exact, axis=1, kind="stable")
        nearest[start : start + len(some)] = np.take_along_axis(found, order, axis=1)
        distances[start : start + len(some)] = np.take_along_axis(exact, order, axis=1)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, range(0, len(rows), NEIGHBOURS_BLOCK)))
    return nearest, distances
