"""Mixing: how much each member of a mean of heads counts, by their scores of held-out images.

Averaging good answers beats picking the best of them, so of few images all members count about the same; the more images,
the more the held-out ones decide.
"""

from __future__ import annotations

import numpy as np

from headstart.numerics.losses import OUTPUTS

PRIOR = 30.0  # images that equal shares are worth; 10 to 100 did as well on seven of eight sets (docs/LOG.md)
STEPS, RATE = 100, 1.0
MOST_IMAGES = 5_000  # more do not turn a handful of numbers


def fit_shares(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, output: str) -> np.ndarray:
    """Find the shares, (h,) float64 that sum to 1, with which the mean of the members' scores has the least cross entropy.

    scores: (h, n, k) of held-out images. labels: (n,) or (n, k). weights: (n,). output: a key of losses.OUTPUTS. To the mean
    cross entropy is added PRIOR / n times the divergence from equal shares (Kullback & Leibler 1951), and both are minimised
    by exponentiated gradient steps (Kivinen & Warmuth 1997).
    """
    n_members, n, k = scores.shape
    shares = np.full(n_members, 1 / n_members)
    if n_members == 1 or not n:
        return shares
    rows = np.linspace(0, n - 1, min(n, MOST_IMAGES)).astype(np.int64)
    scores, labels = scores[:, rows].astype(np.float32), labels[rows]
    targets = labels if labels.ndim == 2 else np.eye(k, dtype=np.float32)[labels]
    weights = (weights[rows] / weights[rows].sum()).astype(np.float32)
    if output == "softmax":
        scores = scores - scores.max(axis=2, keepdims=True)
    for _ in range(STEPS):
        errors = (OUTPUTS[output](np.tensordot(shares.astype(np.float32), scores, 1)) - targets) * weights[:, None]
        slope = np.einsum("nk,hnk->h", errors, scores, dtype=np.float64) + PRIOR / n * np.log(shares * n_members)
        shares = np.maximum(shares * np.exp(-RATE * np.clip(slope - slope.mean(), -1, 1)), 1e-6)
        shares /= shares.sum()
    return shares
