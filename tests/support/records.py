"""Runs as reports need them: findings, run.json and issues of one real small run, with what a test changes of them.

Whatever a test changes must be an entry that the real run has, or that record.py declares: where an entry of run.json gets
another name, these builders fail.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import simplejpeg

import headstart
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.evaluation.metrics import evaluate
from headstart.evaluation.multilabel import evaluate_multilabel
from headstart.numerics.intervals import wilson_interval
from headstart.record import ArgumentsRecord, IssueRecord, RunRecord
from headstart.runs.findings import Findings
from headstart.runs.record_file import check_run, read_issue_records, read_run_record
from support.networks import write_tiny_backbone
from support.photos import write_photos


def elsewhere(folder):
    """Names that lead out of a folder, or to another machine."""
    return [
        str(folder.parent / "other.jpg"), f"{folder}/../other.jpg", "/etc/passwd", "//host/share/x.jpg",
        r"\\host\share\x.jpg", r"\\?\UNC\host\share\x.jpg", rf"{folder}/..\..\x.jpg", rf"{folder}/\\host\x.jpg",
        r"C:\photos\x.jpg", "http://host/x.jpg", "file://host/x.jpg", "javascript:alert(1)", "../other.jpg",
    ]  # fmt: skip


HOSTILE = ("</script><script>alert(1)</script>", "\"'&<b>bold</b>", "🌻 sunflower", "وردة", "caf\udce9", "{{data}}", "")

CLASSES = ("daisy", "roses", "tulips")
# What each run.json has; the others are of trainings alone, or of what was asked for.
ENTRIES_OF_ALL = (
    *("format", "headstart", "created", "photos", "classes", "images", "images_of_class", "notes", "evaluation"),
    "thresholds",
)


@dataclass(frozen=True)
class RealRun:
    """What a training wrote."""

    record: RunRecord
    findings: Findings
    issues: Sequence[IssueRecord]


@cache
def real_run() -> RealRun:
    """Train once, on 120 photos of three colours of which one is there twice; the tests of this process share it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos, backbone = write_photos(root / "photos", n=40), write_tiny_backbone(root / "tiny.onnx")
        (photos / "red" / "copy.png").write_bytes((photos / "red" / "red 0.png").read_bytes())
        run = headstart.train(photos, root / "run", backbone=str(backbone), cache=root / "cache").folder
        record, issues = ((run / name).read_text("utf-8") for name in ("run.json", "issues.json"))
        return RealRun(read_run_record(record), Findings.load(run), read_issue_records(issues))


def like(entry, **changes):
    """An entry of the real run with changes, none of which it would not have."""
    assert changes.keys() <= entry.keys(), f"no run has {sorted(changes.keys() - entry.keys())}"
    return {**entry, **changes}


def declared(record, kind=RunRecord):
    """A record whose every entry record.py declares, and no other; gives it back."""
    wrong = list(undeclared(record, kind))
    assert not wrong, f"record.py does not declare {wrong}"
    return record


def undeclared(value, kind, where=""):
    """The entries of a value that its type does not have, whatever lies within which."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Annotated, NotRequired):
        yield from undeclared(value, parts[0], where)
    elif kind is ArgumentsRecord:
        return  # the arguments that nobody reads again stand beside those that are declared
    elif is_typeddict(kind) and isinstance(value, dict):
        hints = get_type_hints(kind, include_extras=True)
        yield from (f"{where}.{name}" for name in value if name not in hints)
        for name in value.keys() & hints.keys():
            yield from undeclared(value[name], hints[name], f"{where}.{name}")
    elif isinstance(value, list) and parts:
        for part in value:
            yield from undeclared(part, next(p for p in parts if p is not type(None)), where)
    elif type(None) in parts and value is not None:
        yield from undeclared(value, next(p for p in parts if p is not type(None)), where)


def a_picture(seed, size=64):
    """A smooth JPEG of one colour that turns into another, as photos compress."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size)[:, None, None]
    pixels = rng.integers(0, 255, 3) * ramp + rng.integers(0, 255, 3) * (1 - ramp) + rng.normal(0, 6, (size, size, 3))
    return simplejpeg.encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), quality=80, colorspace="RGB")


def some_findings(n=60, classes=CLASSES, *, right=0.8, test=0.3, many=False, names=None, seed=0, is_mapped=False):
    """Findings of n photos, of which about `right` are told rightly."""
    rng, k = np.random.default_rng(seed), len(classes)
    answers = np.arange(n) % k
    said = np.where(rng.random(n) < right, answers, rng.integers(0, k, n))
    logits = rng.normal(0, 0.4, (n, k)).astype(np.float32)
    logits[np.arange(n), said] += 4 + np.log(k)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    splits = np.where(rng.random(n) < test, TEST, np.where(rng.random(n) < 0.2, VALIDATION, TRAIN)).astype(np.int8)
    if many:
        labels = (np.eye(k)[answers] + np.eye(k)[(answers + 1) % k] * (rng.random(n) < 0.4)[:, None] > 0).astype(np.uint8)
        p = np.clip(labels * 0.8 + rng.normal(0.1, 0.25, (n, k)), 0, 1).astype(np.float32)
    return replace(
        real_run().findings,
        names=tuple(names) if names else tuple(f"/photos/{i % 7}/photo {i}.jpg" for i in range(n)),
        labels=labels if many else answers.astype(np.int64),
        splits=splits,
        digests=np.zeros((n, 32), np.uint8),
        groups=np.arange(n),
        held_out=np.arange(n),
        probabilities=p.astype(np.float32),
        unfamiliarity=rng.gamma(6, 0.1, n).astype(np.float32),
        space=np.zeros((n, 2), np.float16),
        space_mean=np.zeros(4, np.float32),
        space_axes=np.zeros((4, 2), np.float32),
        positions=(rng.normal(size=(n, 2)) if is_mapped else np.full((n, 2), np.nan)).astype(np.float32),
    )


def about_of(f, classes=CLASSES, **more):
    """What run.json would say of these findings, and of nothing else."""
    judged = np.flatnonzero(f.splits[f.held_out] == TEST)
    split = "test" if len(judged) else "cross-validation"
    judged = judged if len(judged) else np.arange(len(f.held_out))
    p, labels, many = f.probabilities[judged], f.labels[f.held_out][judged], f.labels.ndim == 2
    thresholds = np.full(len(classes), 0.5, np.float32)
    e = (
        evaluate_multilabel(p, labels, classes, thresholds, split=split)
        if many
        else evaluate(p, labels, classes, split=split)
    )
    per_class = f.labels.sum(axis=0) if many else np.bincount(f.labels, minlength=len(classes))
    n_of = np.bincount(f.splits, minlength=3).tolist()
    real = real_run().record
    record = like(
        {name: real[name] for name in ENTRIES_OF_ALL},
        headstart="0.1.0",
        created="2026-11-22T09:12:13+00:00",
        photos="/photos",
        classes=list(classes),
        images=like(real["images"], used=len(f.names), train=n_of[0], validation=n_of[1], test=n_of[2], skipped=0),
        images_of_class=dict(zip(classes, map(int, per_class), strict=True)),
        notes=[],
        evaluation=json.loads(json.dumps(e.to_json())),
        thresholds=thresholds.tolist() if many else None,
    )
    check_run(record)
    return declared({**record, **more})


def measured(f, n=8):
    """Bins of calibration, as run.json has them, from findings of one label a photo."""
    real = real_run().record["calibration"]
    sure, right = f.probabilities.max(axis=1), f.probabilities.argmax(axis=1) == f.labels[f.held_out]
    bins = []
    for part in np.array_split(np.argsort(sure), n):
        low, high = wilson_interval(int(right[part].sum()), len(part))
        accuracy = float(right[part].mean())
        mean = float(sure[part].mean())
        bins.append(like(real["bins"][0], probability=mean, accuracy=accuracy, n=len(part), interval=[low, high]))
    error = sum(b["n"] * abs(b["probability"] - b["accuracy"]) for b in bins) / len(sure)
    before = [{**b, "probability": b["probability"] ** 0.5} for b in bins]
    errors = {"error_before": error + 0.04, "error_after": error, "bias": 0.025}
    return like(real, temperature=1.3, n_images=len(sure), bins=bins, bins_before=before, **errors)


def everything_else(f, classes=CLASSES):
    """The parts of run.json that not every run has."""
    real = real_run().record
    fitting, unfamiliar = real["fitting"], real["unfamiliar"]
    steps = [
        like(
            fitting["steps"][0],
            step=s,
            train_accuracy=1 - 0.7 * 0.7**s,
            train_cross_entropy=0.05 + 0.8**s,
            validation_accuracy=0.9 - 0.6 * 0.7**s,
            validation_cross_entropy=0.35 + 0.8**s,
        )
        for s in range(25)
    ]
    epochs = [
        {
            "epoch": i,
            "train_loss": None if i == 0 else 1 / i,
            "validation_loss": 0.4 + 1 / (i + 1),
            "validation_accuracy": 0.9,
        }
        for i in range(6)
    ]
    left_out = [
        like(
            unfamiliar["left_out"][0],
            label=c,
            n=20,
            auroc=0.93 - 0.05 * i,
            auroc_max_probability=0.85,
            flagged=0.7 - 0.1 * i,
        )
        for i, c in enumerate(classes)
    ]
    probes = [
        like(unfamiliar["probes"][0], name=name, prediction=classes[0], probability=0.61, unfamiliarity=value)
        for name, value in (("noise", 1.6), ("a page of text", 1.2), ("a cat", 0.9))
    ]
    return {
        "calibration": measured(f),
        "fitting": like(fitting, n_train=264, n_validation=500, steps=steps),
        "unfamiliar": like(unfamiliar, method="nearest", familiar_share=0.95, left_out=left_out, probes=probes),
        # Fine-tuning a network takes long: these entries are held by their types alone.
        "fine_tuning": {"is_taken": False, "epochs": 5, "history": epochs, "comparison": {"sentence": "Undecided."}},
    }


def issues_of(f, kinds=("duplicate", "label", "leak", "outlier"), n=9):
    """A few issues of each kind, about photos that are there."""
    real = real_run().issues[0]
    return [
        like(
            real,
            kind=kind,
            path=f.names[(7 * i + k) % len(f.names)],
            paths=[f.names[(7 * i + k) % len(f.names)], f.names[(7 * i + k + 1) % len(f.names)]],
            label="tulips",
            suggested_label="roses" if kind == "label" else None,
            score=i / n,
            sentence=f"The {kind} number {i}: these photos deserve a look.",
            suggestion="Keep one of them.",
        )
        for k, kind in enumerate(kinds)
        for i in range(n)
    ]
