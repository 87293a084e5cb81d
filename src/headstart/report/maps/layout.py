"""Computes the map's positions by t-SNE (openTSNE), so that photos with similar codes lie close together.

Takes codes along their principal axes; gives a position for each photo (van der Maaten & Hinton 2008). It decides the
perplexity and the number of rounds. New photos are placed on a map without moving it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.engines.hardware import available_cores
from headstart.numerics.neighbours import nearest_neighbours
from headstart.progress import Progress

FEWEST = 10  # photos that have neighbourhoods; with fewer, the first two axes are the map
PERPLEXITY = 30.0  # about how many neighbours each photo looks at
NEW_PERPLEXITY = 5.0  # openTSNE's own choice for points that come later
START = 1e-4  # standard deviation of where photos start (Kobak & Berens 2019)
SLICE = 50  # rounds between two reports of progress
MANY = 10_000  # photos; with more, the grid is faster than the tree to the end


@dataclass(frozen=True)
class Stage:
    """Rounds of gradient descent with an exaggeration; forces are interpolated on a grid of `cell`, or (None) by a tree."""

    rounds: int
    exaggeration: float
    cell: float | None


# Seconds of a core / KL divergence / share of the ten nearest neighbours kept (benchmarks/map.py), of CIFAR-10's images:
# 3,670: openTSNE's own 250 + 500 rounds 5.7 / 2.30 / 0.37, these 1.3 / 2.31 / 0.37, and 0.8 s to import openTSNE.
# 60,000: these 16.7 / 4.15 / 0.25; with 100 + 50 + 125 rounds 11.0 / 4.32 / 0.21.
FEW_STAGES = (Stage(100, 12, 2.0), Stage(50, 4, 2.0), Stage(100, 1, None))
MANY_STAGES = (Stage(125, 12, 2.0), Stage(75, 4, 2.0), Stage(200, 1, 1.5))


def place(
    space: np.ndarray,
    *,
    seed: int = 0,
    threads: int | None = None,
    stages: Sequence[Stage] | None = None,
    progress: Progress = lambda *_: None,
) -> np.ndarray:
    """Compute each photo's position on the map: (n, e) codes along their principal axes to (n, 2) float32.

    t-SNE that starts from the first two axes; the same for the same seed.
    """
    space = np.ascontiguousarray(space, np.float32)
    if len(space) < FEWEST:
        return _first_two(space)
    optimiser = _optimiser()
    stages = stages or (FEW_STAGES if len(space) < MANY else MANY_STAGES)
    n_threads = threads or available_cores()
    perplexity = min(PERPLEXITY, (len(space) - 1) / 3)
    nearest, distances = nearest_neighbours(space, space, int(3 * perplexity), threads=n_threads, is_same=True)
    # One thread moves them: with 60,000 photos two spent 25.5 s of cores' time where one spends 18, and on a busy machine
    # took twice as long, for they wait for each other at every round. So the map is the same on any number of them.
    affinities = optimiser.affinity.PrecomputedAffinities(
        optimiser.affinity.joint_probabilities_nn(nearest, distances, [perplexity]), normalize=False
    )
    embedding = optimiser.TSNEEmbedding(_start(space, seed), affinities, n_jobs=1)
    _optimise(embedding, stages, progress)
    return np.asarray(embedding, np.float32)


def place_on(space_new: np.ndarray, space: np.ndarray, positions: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Place new photos on an existing map: (m, e) and (n, e) codes and (n, 2) positions to (m, 2) float32.

    Each goes where its old neighbours are, and is then moved to where it fits best among them (Poličar, Stražar & Zupan
    2021); new photos do not affect each other. Old photos without a position (NaN) do not count.
    """
    is_placed = np.isfinite(positions).all(axis=1)
    old, reference = np.ascontiguousarray(space[is_placed], np.float32), positions[is_placed].astype(np.float64)
    if not len(old) or not len(space_new):
        return np.zeros((len(space_new), 2), np.float32)
    new, n_threads = np.ascontiguousarray(space_new, np.float32), threads or available_cores()
    k = min(len(old), int(3 * NEW_PERPLEXITY))
    nearest, distances = nearest_neighbours(new, old, k, threads=n_threads)
    if len(old) < FEWEST:
        closeness = 1 / (distances + 1e-3)
        weights = closeness / closeness.sum(axis=1, keepdims=True)
        return np.einsum("ik,ikj->ij", weights, reference[nearest]).astype(np.float32)
    optimiser = _optimiser()
    perplexity = min(NEW_PERPLEXITY, k / 3)
    affinities = optimiser.affinity.joint_probabilities_nn(
        nearest, distances, [perplexity], symmetrize=False, normalization="point-wise", n_reference_samples=len(old)
    )
    nobody = optimiser.affinity.PrecomputedAffinities(_no_affinities(len(old)), normalize=False)
    map_as_it_is = optimiser.TSNEEmbedding(reference, nobody)
    # The nearest third: the median of all would put a photo between two groups that it has a foot in.
    start = np.median(reference[nearest[:, : -(-k // 3)]], axis=1)
    embedding = optimiser.PartialTSNEEmbedding(start, map_as_it_is, affinities, negative_gradient_method="bh", n_jobs=1)
    embedding.optimize(100, learning_rate=0.1, exaggeration=1.5, momentum=0.8, max_grad_norm=0.25, inplace=True)
    return np.asarray(embedding, np.float32)


def _optimiser() -> Any:
    """Import openTSNE, which takes 0.7 s, where it is needed."""
    import openTSNE
    import openTSNE.affinity

    return openTSNE


def _no_affinities(n: int) -> Any:
    import scipy.sparse

    return scipy.sparse.csr_matrix((n, n))


def _first_two(space: np.ndarray) -> np.ndarray:
    """Give the first two axes, or as many as there are; the rest is 0."""
    positions = np.zeros((len(space), 2), np.float32)
    positions[:, : min(2, space.shape[1])] = space[:, :2]
    return positions


def _start(space: np.ndarray, seed: int) -> np.ndarray:
    """Give the start of t-SNE: the first two axes, scaled down, with noise, as no force parts photos on one spot."""
    first = _first_two(space).astype(np.float64)
    spread = first[:, 0].std()
    noise = np.random.default_rng(seed).normal(0, START, first.shape)
    return first * (START / spread) + noise / 100 if spread > 1e-9 else noise


def _optimise(embedding: Any, stages: Sequence[Stage], progress: Progress) -> None:
    done, in_all = 0, sum(stage.rounds for stage in stages)
    for stage in stages:
        method: dict[str, Any] = {"negative_gradient_method": "bh", "theta": 0.8}
        if stage.cell:
            method = {"negative_gradient_method": "fft", "min_num_intervals": 20, "ints_in_interval": stage.cell}
        for start in range(0, stage.rounds, SLICE):
            rounds = min(SLICE, stage.rounds - start)
            embedding.optimize(rounds, exaggeration=stage.exaggeration, momentum=0.8, inplace=True, **method)
            progress("map", done := done + rounds, in_all)
