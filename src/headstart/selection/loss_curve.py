"""Fitting: how the chosen head learnt, step by step, on the images that it learns from and on images that it does not see.

It decides how many images are watched: the curves are for people to see whether a head learns by heart, and are drawn by a
fit of their own, from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.splits import content_folds
from headstart.engines.hardware import blas_threads
from headstart.heads.kinds import HEADS
from headstart.numerics.intervals import effective_size
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.record import LossCurveRecord, StepRecord

WATCHED = ("softmax", "sigmoid")  # class means and neighbours have no steps; a hidden layer takes minutes to watch
MOST_WATCHED = 1_000  # images: a fit of 0.2 s
N_FOLDS = 5
TOLERANCE = 1e-4


def loss_curve(
    codes: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    digests: Sequence[bytes],
    *,
    kind: str,
    strength: float,
    widths: Sequence[int],
    balance: bool = False,
    threads: int | None = None,
) -> LossCurveRecord | None:
    """Fit once more, with a fifth of the images held out, and note accuracy and cross entropy (nats) at each step.

    codes: (n, d), labels: (n,) or (n, k), digests: of the images. kind, strength, parts: as select.choose_head chose them;
    balance: whether every class counts the same in the fit. Of more than MOST_WATCHED images, as many, by content. None for
    heads that are not learnt in steps, and for too few images.
    """
    if kind not in WATCHED:
        return None
    if len(labels) > MOST_WATCHED:
        some = np.sort(np.array(sorted(range(len(labels)), key=lambda i: digests[i])[:MOST_WATCHED], np.int64))
        codes, labels, digests = codes[some], labels[some], [digests[i] for i in some]
    held_out = content_folds(digests, labels, N_FOLDS) == 0
    if not held_out.any() or held_out.all():
        return None
    steps: list[StepRecord] = []
    with blas_threads(threads, codes.size):
        fitter: Any = HEADS[kind].fitter(codes, labels, n_classes, widths)

        def note(solution: np.ndarray) -> None:
            logits = fitter.logits(solution)
            right, loss = is_right(logits, labels), losses(logits, labels)
            steps.append(
                {
                    "step": len(steps),
                    "train_accuracy": float(right[~held_out].mean()),
                    "train_cross_entropy": float(loss[~held_out].mean()),
                    "validation_accuracy": float(right[held_out].mean()),
                    "validation_cross_entropy": float(loss[held_out].mean()),
                }
            )

        weights = counted_weights(labels, is_balanced=balance) * ~held_out
        fitter.fit(strength, weights=weights, tolerance=TOLERANCE, watch=note)
    n_effective = effective_size([digests[i] for i in np.flatnonzero(held_out).tolist()], int(held_out.sum()))
    return {
        "n_train": int((~held_out).sum()),
        "n_validation": int(held_out.sum()),
        "n_effective": n_effective,  # of the latter, copies of a photo counted once
        "steps": steps,
    }
