"""Accounts: what a run says of itself and of its photos, in run.json, model.onnx and findings.npz.

Takes what was learnt and what was held out; gives an evaluation, a row for each held-out photo, and plain dictionaries. It
decides what a classifier is judged on, and that its file says nothing of the machine or the folders that it was made in.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import notes_on
from headstart.data import labels
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.engines.hardware import blas_threads
from headstart.evaluation.metrics import balanced_accuracy
from headstart.numerics.intervals import effective_size, group_numbers, share_interval
from headstart.numerics.pca import principal_axes
from headstart.progress import Progress
from headstart.record import ArgumentsRecord, RungRecord, RunRecord, TrialRecord
from headstart.report.maps.layout import place
from headstart.runs.findings import Findings
from headstart.selection.rungs import Learned
from headstart.training.held_out import HeldOutJudged
from headstart.training.learnable import TrainingSet
from headstart.trust.fit import Trust
from headstart.trust.unfamiliarity import KEPT
from headstart.versions import own_version, versions

MOST_MAPPED = 5_000  # photos on the report's map, evenly drawn: 2 s; `headstart map` places all


def gather_findings(
    data: TrainingSet,
    learned: Learned,
    trust: Trust,
    learnt: np.ndarray,
    tested: np.ndarray,
    threads: int | None,
    progress: Progress,
) -> Findings:
    """What the run knows of each photo. learnt, tested: codes of what was learnt from, and of the test split."""
    choice, is_test = learned.choice, data.splits == TEST
    learn, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    last = np.empty((len(data.labels), learned.look.widths[0]), np.float16)
    last[learn], last[test] = learnt[:, : last.shape[1]], tested[:, : last.shape[1]]
    held_out = np.concatenate([learn[choice.held_out], test])
    order = np.argsort(held_out)
    strange = np.full(len(data.labels), np.nan, np.float32)
    if trust.unfamiliarity is not None:
        scores = choice.head.logits(tested) / np.float32(choice.head.temperature)
        strange[test] = trust.unfamiliarity(tested, scores)
        strange[learn[choice.held_out]] = trust.of_held_out
    with blas_threads(threads, last.size):
        space, mean, axes = principal_axes(last)
    mapped = np.unique(np.linspace(0, len(space) - 1, min(len(space), MOST_MAPPED)).astype(np.int64))
    positions = np.full((len(space), 2), np.nan, np.float32)
    positions[mapped] = place(space[mapped], threads=threads, progress=progress)
    return Findings(
        names=tuple(data.names),
        labels=data.labels,
        splits=data.splits,
        digests=np.frombuffer(b"".join(data.digests), np.uint8).reshape(-1, 32),
        groups=group_numbers(data.groups),
        held_out=held_out[order],
        probabilities=np.concatenate([choice.probabilities, choice.head.probabilities(tested)])[order],
        unfamiliarity=strange,
        space=space.astype(np.float16),
        space_mean=mean,
        space_axes=axes,
        positions=positions,
    )


def run_record(
    photos: Any, arguments: dict[str, Any], data: TrainingSet, n_computed: int, learned: Learned, judged: HeldOutJudged
) -> RunRecord:
    """All that run.json says, but for what only the end knows."""
    choice, look = learned.choice, learned.look
    plain = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in arguments.items()}
    others = np.flatnonzero(data.splits != TEST)[choice.held_out]
    n_cv, cv_correct = len(others), int(judged.is_right.sum())
    of_others, groups_cv = data.labels[others], [data.groups[i] for i in others]
    cv_balanced = balanced_accuracy(judged.is_right, of_others, groups_cv) if n_cv and of_others.ndim == 1 else (None, None)
    fingerprint = sha256(b"".join(sorted(d + bytes([s]) for d, s in zip(data.digests, data.splits.tolist(), strict=True))))
    return {
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "photos": os.path.abspath(photos),
        "arguments": cast(ArgumentsRecord, plain),
        "classes": list(data.classes),
        "images": {
            "used": len(data.labels),
            "train": int((data.splits == TRAIN).sum()),
            "validation": int((data.splits == VALIDATION).sum()),
            "test": int((data.splits == TEST).sum()),
            "skipped": len(data.skipped),
            "computed": n_computed,
        },
        "images_of_class": dict(zip(data.classes, labels.counts(data.labels, len(data.classes)).tolist(), strict=True)),
        "splits_sha256": fingerprint.hexdigest(),
        "notes": data.notes,
        "choice": {
            "backbone": look.name,
            "pixels": look.backbones[0].preprocess.size,
            "layers": look.n_layers,
            "mirrored": look.is_mirrored,
            "views": list(look.views),
            "head": choice.kind,
            "strength": choice.strength,
            "trials": [cast(TrialRecord, asdict(t)) for t in choice.trials],
        },
        "ladder": [cast(RungRecord, asdict(rung)) for rung in learned.rungs],
        "cross_validation": {
            "n_images": n_cv,
            "n_correct": cv_correct,
            "accuracy": cv_correct / n_cv if n_cv else None,
            "interval": share_interval(cv_correct, n_cv, effective_size(groups_cv, n_cv)),
            "balanced_accuracy": cv_balanced[0],
            "balanced_interval": cv_balanced[1],
        },
        "evaluation": judged.evaluation.to_json(),
        "thresholds": None if judged.thresholds is None else judged.thresholds.tolist(),
        "versions": versions(),
    }


def classifier_metadata(about: RunRecord, trust: Trust, backbones: Sequence[Backbone]) -> dict[str, Any]:
    """What model.onnx says of itself: nothing of the machine or the folders that it was made in."""
    left_out = ("classes", "confusion")  # in run.json, and as large as the square of the number of classes
    evaluation = {k: v for k, v in about["evaluation"].items() if k not in left_out}
    return {
        "headstart": about["headstart"],
        "created": about["created"],
        "images": about["images"],
        "evaluation": evaluation,
        **({"thresholds": about["thresholds"]} if about["thresholds"] else {}),
        "calibration": _calibration_in_short(trust),
        "unfamiliar": {"threshold": 1.0, "familiar_share": KEPT} if trust.unfamiliarity else None,
        "conformal": trust.conformal,
        "license_notes": notes_on(backbones),
        "head": {"kind": about["choice"]["head"], "strength": about["choice"]["strength"]},
        "versions": {"onnx": about["versions"]["onnx"]},
    }


def _calibration_in_short(trust: Trust) -> dict[str, Any] | None:
    told = trust.calibration.to_json() if trust.calibration else None
    return told and {name: value for name, value in told.items() if not name.startswith("bins")}
