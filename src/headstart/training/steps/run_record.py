"""Composes the record of a training, which becomes run.json, and what model.onnx says of itself.

It decides that the classifier's file says nothing of the machine, the folders and the day that it was made on: the same
photos give the same file.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast

from headstart.backbones.find import notes_on
from headstart.data import labels
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.evaluation.metrics import balanced_accuracy
from headstart.numerics.intervals import effective_size, share_interval
from headstart.record import (
    ArgumentsRecord,
    ChoiceRecord,
    CrossValidationRecord,
    ImageCounts,
    RungRecord,
    RunRecord,
    TrialRecord,
)
from headstart.report.sentences.numbers import judges
from headstart.training.options import TrainOptions
from headstart.training.steps.held_out import HeldOutJudged
from headstart.training.steps.load import Backbones
from headstart.training.steps.look import RunFindings
from headstart.training.steps.training_set import TrainingSet
from headstart.training.steps.trust import Trained
from headstart.trust.fit import Trust
from headstart.trust.unfamiliarity import FAMILIAR_SHARE
from headstart.versions import own_version, versions

FEW_TESTED = 30


def compose_record(
    photos: str | os.PathLike[str],
    options: TrainOptions,
    backbones: Backbones,
    n_computed: int,
    trained: Trained,
    judged: HeldOutJudged,
    findings: RunFindings,
) -> RunRecord:
    """Compose all that run.json says, but for what only the end knows: the model, the probes and the seconds.

    photos: as they were given. n_computed: images whose codes the store did not hold.
    """
    data, trust, verdict = trained.data, trained.trust, trained.chosen.verdict
    arguments = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.arguments.items()}
    return {
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "photos": os.path.abspath(photos),
        "arguments": cast(ArgumentsRecord, arguments),
        "classes": list(data.classes),
        "images": _image_counts(data, n_computed),
        "images_of_class": dict(zip(data.classes, labels.counts(data.labels, len(data.classes)).tolist(), strict=True)),
        "splits_sha256": _fingerprint(data),
        "notes": _notes(trained, judged, findings),
        "choice": _choice(trained),
        "effort": {
            "name": backbones.effort.name,
            "is_cut": backbones.is_cut or any(rung.is_cut for rung in trained.selection.rungs),
        },
        "ladder": [cast(RungRecord, asdict(rung)) for rung in trained.selection.rungs],
        "cross_validation": _cross_validation(trained, judged),
        "evaluation": judged.evaluation.to_json(),
        "thresholds": None if judged.thresholds is None else judged.thresholds.tolist(),
        "versions": versions(),
        "calibration": None if trust.calibration is None else trust.calibration.to_json(),
        "fine_tuning": None if verdict is None else verdict.to_json(),
        "learning_curve": findings.learning_curve,
        "fitting": findings.loss_curve,
        "unfamiliar": trust.unfamiliar_to_json(findings.of_photos.unfamiliarity[data.splits == TEST]),
        "issues": dict(Counter(issue["kind"] for issue in findings.issues)),
    }


def _image_counts(data: TrainingSet, n_computed: int) -> ImageCounts:
    return {
        "used": len(data.labels),
        "train": int((data.splits == TRAIN).sum()),
        "validation": int((data.splits == VALIDATION).sum()),
        "test": int((data.splits == TEST).sum()),
        "skipped": len(data.skipped),
        "computed": n_computed,
    }


def _fingerprint(data: TrainingSet) -> str:
    """Which image is in which split, as one sha256."""
    pairs = zip(data.digests, data.splits.tolist(), strict=True)
    return sha256(b"".join(sorted(digest + bytes([split]) for digest, split in pairs))).hexdigest()


def _notes(trained: Trained, judged: HeldOutJudged, findings: RunFindings) -> list[str]:
    """What the user should know, in the order in which it came up."""
    notes = [*trained.data.notes, *trained.chosen.notes, *findings.notes]
    if judged.evaluation.n_different < FEW_TESTED:
        judging = judges(judged.evaluation.to_json())
        notes.append(f"only {judging} to judge by: mind the interval, and add photos if you can")
    return [*notes, *trained.workspace.store.notes]


def _choice(trained: Trained) -> ChoiceRecord:
    choice, representation = trained.choice, trained.selection.representation
    return {
        "backbone": representation.name,
        "pixels": representation.backbones[0].preprocess.size,
        "layers": representation.n_layers,
        "mirrored": representation.is_mirrored,
        "views": list(representation.views),
        "head": choice.kind,
        "strength": choice.strength,
        "members": [
            {"codes": member.end - member.start, "share": member.share, "start": member.start} for member in choice.members
        ],
        "trials": [cast(TrialRecord, asdict(trial)) for trial in choice.trials],
    }


def _cross_validation(trained: Trained, judged: HeldOutJudged) -> CrossValidationRecord:
    data = trained.data
    rows = data.learn[trained.choice.held_out]
    n, n_correct, groups = len(rows), int(judged.is_right.sum()), [data.groups[i] for i in rows]
    is_balanced = n and data.labels.ndim == 1
    balanced = balanced_accuracy(judged.is_right, data.labels[rows], groups) if is_balanced else (None, None)
    return {
        "by": "folds" if data.validation is None else "validation",
        "n_images": n,
        "n_correct": n_correct,
        "accuracy": n_correct / n if n else None,
        "interval": share_interval(n_correct, n, effective_size(groups, n)),
        "balanced_accuracy": balanced[0],
        "balanced_interval": balanced[1],
    }


def compose_metadata(record: RunRecord, trained: Trained) -> dict[str, Any]:
    """Compose what model.onnx says of itself beside what every classifier does: nothing of the machine or its folders."""
    trust, choice = trained.trust, record["choice"]
    left_out = ("classes", "confusion")  # in run.json, and as large as the square of the number of classes
    evaluation = {k: v for k, v in record["evaluation"].items() if k not in left_out}
    return {
        "headstart": record["headstart"],
        "images": {kind: n for kind, n in record["images"].items() if kind != "computed"},
        "evaluation": evaluation,
        **({"thresholds": record["thresholds"]} if record["thresholds"] else {}),
        "calibration": _calibration_in_short(trust),
        "unfamiliar": {"threshold": 1.0, "familiar_share": FAMILIAR_SHARE} if trust.unfamiliarity else None,
        "conformal": trust.conformal,
        "license_notes": notes_on(trained.representation.backbones),
        "head": {"kind": choice["head"], "strength": choice["strength"]},
        "versions": {"onnx": record["versions"]["onnx"]},
    }


def _calibration_in_short(trust: Trust) -> dict[str, Any] | None:
    """The calibration without its bins."""
    if trust.calibration is None:
        return None
    return {name: value for name, value in trust.calibration.to_json().items() if not name.startswith("bins")}
