"""Verifies a run, a model.onnx or an export: its hash, its format, where it comes from, and whether it still says the same.

A run's classifier labels the photos of its test split again, on this machine; the probabilities of run.json's day stand in
findings.npz. It decides what counts as the same: the same label for each photo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import FILE_NAME, FORMAT
from headstart.data.decoding import Failure
from headstart.data.images import load_image
from headstart.data.splits import TEST
from headstart.data.tables import same_content_of
from headstart.engines.hardware import Hardware
from headstart.errors import ClassifierError
from headstart.export.card import PROGRAMS
from headstart.export.parity import labels_of
from headstart.progress import Progress
from headstart.runs.open import SavedRun, open_run
from headstart.safety.json_checks import read_json
from headstart.wording import counted

CLOSE = 0.01  # of a probability: as far as the precisions of this release differ (benchmarks/export.py)


@dataclass(frozen=True)
class Finding:
    """One thing that was verified. is_right: None where nothing could be said."""

    what: str
    is_right: bool | None
    text: str


@dataclass(frozen=True)
class Verified:
    """What was found. path: of what was verified."""

    path: Path
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_right is False for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {"path": str(self.path), "is_right": self.is_right, "findings": [vars(finding) for finding in self.findings]}


def verify(
    path: str | os.PathLike[str],
    *,
    photos: str | os.PathLike[str] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> Verified:
    """Verify a run folder, a model.onnx, or the folder of an export.

    photos: where a run's photos lie now, if they were moved. Raises ClassifierError or DataError for what is none of these,
    or is damaged.
    """
    place, hardware = Path(path), Hardware(device, threads, precision)
    if (place / PROGRAMS).is_file():
        return Verified(place, tuple(_of_export(place)))
    classifier = Classifier.load(place, hardware)
    findings = [Finding("file", True, f"whole and unchanged since headstart wrote it; format {FORMAT}"), _origin(classifier)]
    if place.is_dir():
        saved = open_run(place, photos=photos)
        saved.own(classifier)
        findings += [*_of_run(saved), _again(saved, classifier, progress)]
    return Verified(place, tuple(findings))


def _origin(classifier: Classifier) -> Finding:
    about: Any = classifier.about
    backbone = about["backbone"]
    hashes = ", ".join(digest[:12] for digest in backbone.get("sha256", ())) or "unknown"
    made = f"made by headstart {about.get('headstart', '(unknown)')}"
    return Finding(
        "origin", None, f"{made} on {backbone['name']} (sha256 {hashes}); {counted(len(about['classes']), 'label')}"
    )


def _of_run(saved: SavedRun) -> Iterator[Finding]:
    record = saved.record
    wanted = record.get("model", {}).get("sha256")
    digest = sha256((saved.folder / FILE_NAME).read_bytes()).hexdigest()
    if wanted is not None:
        text = (
            "model.onnx is the one that run.json names" if digest == wanted else "model.onnx is another than run.json names"
        )
        yield Finding("hash", digest == wanted, f"{text} (sha256 {digest[:12]})")
    used = record["images"]["used"]
    splits = record.get("splits_sha256", "unknown")[:12]
    yield Finding("photos", None, f"{counted(used, 'photo')} of {record['photos']}; splits {splits}")


def _again(saved: SavedRun, classifier: Classifier, progress: Progress) -> Finding:
    """Label the test split's photos again."""
    findings = saved.findings
    before = {row: p for row, p in zip(findings.held_out.tolist(), findings.probabilities, strict=True)}
    rows = [row for row in np.flatnonzero(findings.splits == TEST).tolist() if row in before]
    answers = {}
    for done, row in enumerate(rows, start=1):
        image = saved.images[row]
        content = None if image is None else same_content_of(image, findings.digests[row].tobytes())
        if content is not None and not isinstance(content, Failure):
            pixels = load_image(content, classifier.preprocess)
            if not isinstance(pixels, Failure):
                answers[row] = classifier.engine.infer(pixels)["probabilities"]
        progress("verify", done, len(rows))
    if not answers:
        why = "it has no test split" if not rows else "none of its photos is where it was: name their place with --photos"
        return Finding("predictions", None, f"nothing was repeated: {why}")
    return _compare(saved, classifier, np.array(list(answers)), np.stack(list(answers.values())), len(rows))


def _compare(saved: SavedRun, classifier: Classifier, rows: np.ndarray, again: np.ndarray, n: int) -> Finding:
    findings = saved.findings
    before = findings.probabilities[np.searchsorted(findings.held_out, rows)]
    is_same = labels_of(before, classifier.thresholds) == labels_of(again, classifier.thresholds)
    is_same = is_same.reshape(len(rows), -1).all(axis=1)
    apart = float(np.abs(before - again).max())
    gone = f"; {counted(n - len(rows), 'photo')} could not be read" if n > len(rows) else ""
    text = (
        f"{int(is_same.sum()):,} of {counted(len(rows), 'test photo')} have the same label as on the day of the training; "
        f"probabilities differ by {apart:.4f} at most{gone}"
    )
    is_close = np.abs(before - again).max(axis=1) <= CLOSE
    return Finding("predictions", bool((is_same | is_close).all()), text)


def _of_export(folder: Path) -> Iterator[Finding]:
    """The file of an export against the hash that stands beside it, and what the comparison said on its day."""
    try:
        about = read_json((folder / PROGRAMS).read_text("utf-8"))
        file, wanted = folder / Path(about["file"]).name, about["sha256"]
        digest = sha256(file.read_bytes()).hexdigest()
        parity = read_json((folder / "parity.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClassifierError(f"{folder} is no whole export: {error}; export the run again") from error
    text = "is the one that was compared" if digest == wanted else "has been changed since headstart wrote it"
    yield Finding("hash", digest == wanted, f"{file.name} {text} (sha256 {digest[:12]})")
    if not isinstance(parity, dict) or not parity.get("parity"):
        yield Finding("comparison", None, f"it was not compared: {json.dumps(parity.get('not_checked'))}")
        return
    told = parity["parity"]
    yield Finding(
        "comparison",
        None,
        f"on its day {told['same_label']:,} of {counted(told['n'], 'photo')} had the original's label, "
        f"run by {parity['runner']}",
    )
