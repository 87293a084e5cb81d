"""The loss curve: accuracy and cross entropy at each step of a head's fit, on its training images and on held-out ones.

People see from it whether a head overfits. It is drawn by a fit of its own, from the first step on; it decides how many
images that takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstart.data.splits import content_folds
from headstart.engines.hardware import blas_threads
from headstart.heads.kinds import HEADS, make_fitter
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import effective_size
from headstart.numerics.losses import counted_weights, is_right, losses
from headstart.record import LossCurveRecord, StepRecord

MOST_WATCHED = 1_000  # images: a fit of 0.2 s
TOLERANCE = 1e-4


def loss_curve(
    data: LabelledCodes, *, kind: str, strength: float, balance: bool = False, threads: int | None = None
) -> LossCurveRecord | None:
    """Fit once more, with a fifth of the images held out, and note accuracy and cross entropy (nats) at each step.

    data: without views. kind, strength: as cross_validation.choose_head chose them. balance: whether every class counts the
    same in the fit. threads: cores that linear algebra may use. Of more than MOST_WATCHED images, as many are taken, by
    content. None for heads that are not learnt in steps, and for too few images.
    """
    if kind not in HEADS or not HEADS[kind].has_steps:
        return None
    if len(data) > MOST_WATCHED:
        by_content = sorted(range(len(data)), key=lambda i: data.groups[i])
        data = data.of(np.sort(np.array(by_content[:MOST_WATCHED], np.int64)))
    labels, held_out = data.labels, content_folds(data.groups, data.labels) == 0
    if not held_out.any() or held_out.all():
        return None
    steps: list[StepRecord] = []
    with blas_threads(threads, data.codes.size):
        fitter: Any = make_fitter(kind, data.codes, labels, data.n_classes, data.widths, data.members[-1:])

        def note_step(solution: np.ndarray) -> None:
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
        fitter.fit(strength, weights=weights, tolerance=TOLERANCE, watch=note_step)
    n_effective = effective_size([data.groups[i] for i in np.flatnonzero(held_out).tolist()], int(held_out.sum()))
    return {
        "n_train": int((~held_out).sum()),
        "n_validation": int(held_out.sum()),
        "n_effective": n_effective,  # of the latter, copies of a photo counted once
        "steps": steps,
    }
