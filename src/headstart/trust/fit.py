"""Fits all that a classifier says of its own limits: its temperature, unfamiliarity and conformal scores.

Takes labelled codes and the head that was chosen on them; gives a Trust. All of it comes from the images that were held out
by cross-validation: the test split never comes here. A trial on classes that were hidden says how well unfamiliar photos are
noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from headstart.codes.results import Results
from headstart.data.splits import content_folds
from headstart.engines.hardware import blas_threads
from headstart.heads.kinds import HEADS
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.intervals import one_of_each
from headstart.record import LeftOutRecord, UnfamiliarRecord
from headstart.selection.cross_validation import Choice
from headstart.trust.calibration import Calibration, calibrate
from headstart.trust.conformal import held_out_scores
from headstart.trust.unfamiliarity import (
    FAMILIAR_SHARE,
    Unfamiliarity,
    fit_unfamiliarity,
    roc_auc,
    unfamiliarity_of_hidden_class,
)

MOST_HIDDEN = 5  # classes that are hidden for a trial, and the images of the trial: it takes half a second
MOST_IN_TRIAL = 600
TRIAL_STRENGTH = 0.03
FEWEST_FOR_TRIAL, FEWEST_FAMILIAR = 5, 20  # images of the hidden class, and of the others to compare with


@dataclass(frozen=True)
class HiddenClass:
    """A class that a trial head was never shown: how well its n images are noticed among the others' held-out ones.

    auroc: by unfamiliarity; auroc_max_probability: by the highest probability alone. flagged: the share of its images above
    the threshold that keeps FAMILIAR_SHARE of the others.
    """

    label: str
    n: int
    auroc: float
    auroc_max_probability: float
    flagged: float


@dataclass(frozen=True)
class Trust:
    """All that a classifier says of its own limits.

    choice: with its head at the temperature of the calibration. unfamiliarity: None where nothing was held out;
    held_out_unfamiliarity: that of the choice's held-out rows, (m,). conformal: what Classifier.predict needs for prediction
    sets; None for several labels an image. hidden_classes: see HiddenClass.
    """

    choice: Choice
    calibration: Calibration | None
    unfamiliarity: Unfamiliarity | None
    held_out_unfamiliarity: np.ndarray
    conformal: dict[str, Any] | None
    hidden_classes: tuple[HiddenClass, ...]

    def unfamiliar_to_json(self, tested: np.ndarray) -> UnfamiliarRecord | None:
        """The entry `unfamiliar` of run.json. tested: the unfamiliarity of the test split's images."""
        if self.unfamiliarity is None:
            return None
        return {
            "method": "distance and energy" if self.unfamiliarity.cues[1] else "distance",
            "threshold": 1.0,
            "familiar_share": FAMILIAR_SHARE,
            "test": {"n": len(tested), "flagged": int((tested > 1).sum())},
            "left_out": [cast(LeftOutRecord, asdict(row)) for row in self.hidden_classes],
        }


def build_trust(
    data: LabelledCodes,
    classes: Sequence[str],
    choice: Choice,
    *,
    results: Results | None = None,
    threads: int | None = None,
) -> Trust:
    """Calibrate the choice, learn what is familiar, and try both on hidden classes.

    data: all that was learnt from, without views; its groups decided what was held out. results: of earlier runs. threads:
    cores that linear algebra may use.
    """
    with blas_threads(threads, len(data) * data.width):
        return _build_trust(data, classes, choice, results)


def _build_trust(data: LabelledCodes, classes: Sequence[str], choice: Choice, results: Results | None) -> Trust:
    codes, labels = data.codes, data.labels
    groups = [data.groups[i] for i in choice.held_out]
    # Copies of a photo are right or wrong together, and say no more than one of them.
    ones = one_of_each(groups, np.column_stack([choice.logits, labels[choice.held_out]]))
    calibration = calibrate(
        choice.logits[ones], labels[choice.held_out[ones]], choice.head.output, is_balanced=choice.is_balanced
    )
    if calibration is not None:
        choice = replace(choice, head=replace(choice.head, temperature=calibration.temperature))
    is_tuned = choice.kind not in HEADS  # its one head has not seen what was held out, and its scores are the log-odds
    scores = choice.head.logits(codes[choice.held_out]) if is_tuned else choice.logits
    fitted = _fit_unfamiliarity(data, len(classes), choice, scores / np.float32(choice.head.temperature), results)
    conformal = None
    if labels.ndim == 1 and len(choice.held_out) and not is_tuned:  # what was held out from that has chosen its epoch
        conformal = held_out_scores(choice.probabilities, labels[choice.held_out], groups, is_balanced=choice.is_balanced)
    return Trust(
        choice,
        calibration,
        fitted[0] if fitted else None,
        fitted[1] if fitted else np.zeros(0, np.float32),
        conformal,
        _hidden_classes(data, classes, results) if fitted and not is_tuned else (),
    )


def _fit_unfamiliarity(
    data: LabelledCodes, n_classes: int, choice: Choice, logits: np.ndarray, results: Results | None
) -> tuple[Unfamiliarity, np.ndarray] | None:
    """Learn what is familiar, or read it from the cache; see fit_unfamiliarity."""
    rows = np.ascontiguousarray(data.codes[:, : data.width])

    def compute() -> dict[str, np.ndarray]:
        fitted = fit_unfamiliarity(
            rows,
            data.labels,
            n_classes,
            n_codes=data.width,
            held_out=choice.held_out,
            fold=choice.fold,
            logits=logits,
            has_energy=choice.head.votes is None,
        )
        return {} if fitted is None else {**fitted[0].to_arrays(), "held_out": fitted[1]}

    inputs = [rows, data.labels, n_classes, choice.held_out, choice.fold, logits, choice.head.votes is None]
    arrays = results.arrays("unfamiliarity", inputs, compute) if results else compute()
    return (Unfamiliarity.of_arrays(arrays), arrays["held_out"]) if arrays else None


def _hidden_classes(data: LabelledCodes, classes: Sequence[str], results: Results | None) -> tuple[HiddenClass, ...]:
    """Try hidden classes, or read from the cache what that came to."""

    def compute() -> list[dict[str, Any]]:
        return [asdict(row) for row in _try_hidden_classes(data, classes)]

    inputs = [np.ascontiguousarray(data.codes[:, : data.width]), data.labels, list(data.groups), tuple(classes)]
    rows = results.record("hidden classes", inputs, compute) if results else compute()
    return tuple(HiddenClass(**row) for row in rows)


def _try_hidden_classes(data: LabelledCodes, classes: Sequence[str]) -> Sequence[HiddenClass]:
    """Hide some classes, one at a time, from a head that is learnt on a sample of the images, and see if it notices them."""
    if data.labels.ndim == 2 or len(classes) < 3:
        return []
    counts = np.bincount(data.labels, minlength=len(classes))
    largest = np.argsort(-counts, kind="stable")[:MOST_HIDDEN]
    by_content = sorted(range(len(data)), key=lambda i: data.groups[i])
    data = data.of(np.sort(np.array(by_content[:MOST_IN_TRIAL], np.int64)))
    codes, labels = data.codes[:, : data.width], data.labels
    held_out = content_folds(data.groups, labels, 3) == 0
    rows = []
    for hidden in np.sort(largest).tolist():
        others = np.flatnonzero(~held_out & (labels != hidden))
        n_familiar = int((held_out & (labels != hidden)).sum())
        if (labels == hidden).sum() < FEWEST_FOR_TRIAL or n_familiar < FEWEST_FAMILIAR or len(np.unique(labels[others])) < 2:
            continue
        renumbered = np.cumsum(np.arange(len(classes)) != hidden) - 1
        fitter = HEADS["softmax"].fitter(codes[others], renumbered[labels[others]], len(classes) - 1)
        logits = fitter.head(fitter.fit(TRIAL_STRENGTH)).logits(codes)
        unfamiliarity, doubt, is_hidden = unfamiliarity_of_hidden_class(
            codes, logits, labels, len(classes), held_out, hidden
        )
        threshold = np.quantile(unfamiliarity[~is_hidden], FAMILIAR_SHARE)
        rows.append(
            HiddenClass(
                classes[hidden],
                int(is_hidden.sum()),
                roc_auc(unfamiliarity, is_hidden),
                roc_auc(doubt, is_hidden),
                float((unfamiliarity[is_hidden] > threshold).mean()),
            )
        )
    return rows
