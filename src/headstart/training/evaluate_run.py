"""A finished classifier on other labelled photos: the same evaluation and report, and how it compares with another run.

Takes a run and photos; gives an evaluation on those of them that the run has not learnt from, resaved or not, and whose
class it knows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np

from headstart.cache_folder import default_cache_dir
from headstart.classifier.classifier import Classifier
from headstart.codes.workspace import Workspace
from headstart.data import datasets, labels
from headstart.data.datasets import Dataset
from headstart.data.images import display_name
from headstart.data.splits import SPLITS, TEST
from headstart.data.tables import ImageRef
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.evaluation.comparison import Comparison, compare_classifiers
from headstart.evaluation.metrics import Evaluation, evaluate
from headstart.evaluation.multilabel import MultiLabelEvaluation, evaluate_multilabel
from headstart.files import write_output
from headstart.numerics.intervals import group_numbers, one_of_each
from headstart.numerics.pca import along_axes
from headstart.progress import Progress
from headstart.record import CalibrationRecord, RunRecord
from headstart.report.maps.layout import place_on
from headstart.report.review import pictures_of, review, with_probes, write_issues, write_report
from headstart.runs.findings import Findings
from headstart.runs.folder import PredictionRow, draft_of, publish, reserve, write_tables
from headstart.runs.open import SavedRun, open_run
from headstart.runs.record_file import run_record_json
from headstart.runs.training_photos import find_training_photos
from headstart.training.other_photos import (
    Answers,
    JudgingPhotos,
    classify_again,
    classify_photos,
    labels_for,
    notes_on_test_photos,
    select_judging,
)
from headstart.trust.calibration import calibrate_probabilities
from headstart.versions import own_version, versions
from headstart.wording import listed


@dataclass(frozen=True)
class RunEvaluation:
    """What a classifier does on other photos. comparison: with another run on the same photos; folder: where all lies."""

    evaluation: Evaluation | MultiLabelEvaluation
    comparison: Comparison | None
    about: RunRecord
    folder: Path | None


def evaluate_run(
    run: str | os.PathLike[str],
    photos: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    write: bool = True,
    cache: str | os.PathLike[str] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> RunEvaluation:
    """Evaluate a run's classifier on labelled photos that it has not learnt from, all splits together.

    run, against: run folders; with both, they are compared on the photos that neither has learnt from (McNemar's test).
    photos: as train takes them; those of other classes, and those that were learnt from, are left out and told. output: the
    folder to write the report into, by default a new one named after the photos; write: False writes nothing. cache, device,
    threads, precision, progress: as in training.train. Raises HeadstartError for anything that the caller can mend.
    """
    hardware, saved = Hardware(device, threads, precision), open_run(run)
    other = None if against is None else open_run(against)
    cache_dir = Path(cache) if cache is not None else default_cache_dir()
    place = reserve(output, photos, "evaluation") if write else contextlib.nullcontext()
    with place as folder, Workspace(cache_dir, hardware, progress=progress) as workspace:
        with workspace.stage("list"):
            dataset = datasets.load_dataset(photos, is_learnt=False)
        judged = _judge(saved, other, dataset, workspace)
        record, findings = _compose_record(judged, photos), _compose_findings(judged)
        record["calibration"] = _calibration(judged, findings)
        if folder is not None:
            record = _write(folder, judged, record, findings, workspace)
        return RunEvaluation(judged.evaluation, judged.comparison, record, folder)


@dataclass(frozen=True)
class _Judged:
    """A run's classifier, and how it did on other photos. truth, groups: of the photos that judge, see JudgingPhotos."""

    saved: SavedRun
    dataset: Dataset
    classifier: Classifier
    answers: Answers
    judging: JudgingPhotos
    truth: np.ndarray
    groups: list[bytes]
    evaluation: Evaluation | MultiLabelEvaluation
    comparison: Comparison | None

    @property
    def images(self) -> list[ImageRef]:
        """The photos that judge."""
        return [self.dataset.images[i] for i in self.answers.rows[self.judging.positions]]

    @property
    def digests(self) -> list[bytes]:
        """The sha256 of the photos that judge."""
        return [self.answers.digests[i] for i in self.judging.positions]

    def output(self, name: str) -> np.ndarray | None:
        """What the network gives for the photos that judge, of one of its outputs."""
        rows = self.answers.outputs.get(name)
        return None if rows is None else rows[self.judging.positions]


def _judge(saved: SavedRun, other: SavedRun | None, dataset: Dataset, workspace: Workspace) -> _Judged:
    """Classify the photos, leave out those that cannot judge, and evaluate; other: the run to compare with."""
    classifier = saved.classifier(workspace.hardware)
    second = None if other is None else _comparable(other, classifier, workspace.hardware)
    runs = [saved] if other is None else [saved, other]
    train_digests = {digest.tobytes() for run in runs for digest in run.findings.digests[run.findings.splits != TEST]}
    answers = classify_photos(classifier, dataset, train_digests, "evaluate", workspace.progress)
    again = None if second is None else classify_again(second, dataset, answers, workspace.progress)
    images = [dataset.images[i] for i in answers.rows]
    with workspace.stage("recognise"):
        train_photos = [
            find_training_photos(
                run, images, answers.digests, outputs["codes"], workspace.store, threads=workspace.hardware.threads
            )
            for run, outputs in zip(runs, (answers.outputs, again), strict=False)
            if outputs
        ]
    judging = select_judging(dataset, answers, classifier, train_photos)
    positions = judging.positions
    truth = labels_for(dataset, classifier)[answers.rows[positions]]
    groups = [train_photos[0].groups[i] for i in positions]  # of each photo that judges: the same for copies of one photo
    probabilities = answers.outputs["probabilities"][positions]
    evaluation = _evaluation(probabilities, truth, classifier, groups)
    comparison = None
    if again is not None and second is not None:
        theirs = _is_right(again["probabilities"][positions], labels_for(dataset, second)[answers.rows[positions]], second)
        ours = _is_right(probabilities, truth, classifier)
        comparison = compare_classifiers(ours, theirs, groups=groups, name_a="this run", name_b=str(runs[-1].folder))
    return _Judged(saved, dataset, classifier, answers, judging, truth, groups, evaluation, comparison)


def _write(folder: Path, judged: _Judged, record: RunRecord, findings: Findings, workspace: Workspace) -> RunRecord:
    """Write the evaluation's folder; gives the record with what the review adds."""
    images, progress = judged.images, workspace.progress
    pictures = pictures_of(findings, images, workspace.store, threads=workspace.hardware.threads, progress=progress)
    record = {**record, "notes": [*record["notes"], *workspace.store.notes]}
    with workspace.stage("review"):
        reviewed = review(judged.classifier, findings, images, pictures, progress=progress)
    record = with_probes(record, reviewed)
    with workspace.stage("write"), draft_of(folder) as draft:
        write_tables(draft, judged.classifier.classes, _predictions(findings, record), judged.judging.skipped)
        findings.save(draft)
        write_issues(draft, [])
        write_report(draft, record, findings, [], reviewed)
        write_output(draft / "run.json", run_record_json(record))
        publish(draft, folder)
    return record


def _calibration(judged: _Judged, findings: Findings) -> CalibrationRecord | None:
    """How far the probabilities hold on the photos that judge, copies counted once."""
    ones = one_of_each(judged.groups, np.column_stack([findings.probabilities, judged.truth]))
    before = judged.saved.record.get("calibration")
    return calibrate_probabilities(findings.probabilities[ones], judged.truth[ones], before)


def _evaluation(
    probabilities: np.ndarray, truth: np.ndarray, classifier: Classifier, groups: Sequence[bytes]
) -> Evaluation | MultiLabelEvaluation:
    if classifier.thresholds is None:
        return evaluate(probabilities, truth, classifier.classes, groups=groups)
    return evaluate_multilabel(probabilities, truth, classifier.classes, classifier.thresholds, groups=groups)


def _is_right(probabilities: np.ndarray, truth: np.ndarray, classifier: Classifier) -> np.ndarray:
    if classifier.thresholds is None:
        return probabilities.argmax(axis=1) == truth
    return ((probabilities >= classifier.thresholds) == (truth > 0)).all(axis=1)


def _comparable(other: SavedRun, classifier: Classifier, hardware: Hardware) -> Classifier:
    """The classifier of another run; raises HeadstartError where it does not tell the same classes apart."""
    second = other.classifier(hardware)
    if set(second.classes) != set(classifier.classes) or (second.thresholds is None) != (classifier.thresholds is None):
        raise HeadstartError(
            f"{other.folder} tells {listed(second.classes)} apart, the first run "
            f"{listed(classifier.classes)}; only runs of the same classes can be compared"
        )
    return second


def _compose_findings(judged: _Judged) -> Findings:
    """What is known of the new photos, in the run's own space and on its map."""
    run, codes = judged.saved.findings, judged.output("codes")
    probabilities, unfamiliarity = judged.output("probabilities"), judged.output("unfamiliarity")
    assert codes is not None and probabilities is not None  # check_outputs has seen to that
    n = len(codes)
    space = along_axes(codes[:, : len(run.space_mean)], run.space_mean, run.space_axes)
    on_map = np.flatnonzero(np.isfinite(run.positions).all(axis=1))
    positions = np.full((n, 2), np.nan, np.float32)
    if len(on_map):
        positions = place_on(space, run.space[on_map].astype(np.float32), run.positions[on_map])
    return Findings(
        names=tuple(display_name(image) for image in judged.images),
        labels=judged.truth,
        splits=np.full(n, TEST, np.int8),
        digests=np.frombuffer(b"".join(judged.digests), np.uint8).reshape(-1, 32),
        groups=group_numbers(judged.groups),
        held_out=np.arange(n),
        probabilities=probabilities,
        unfamiliarity=np.full(n, np.nan, np.float32) if unfamiliarity is None else unfamiliarity[:, 0],
        space=space.astype(np.float16),
        space_mean=run.space_mean,
        space_axes=run.space_axes,
        positions=positions,
    )


def _compose_record(judged: _Judged, photos: str | os.PathLike[str]) -> RunRecord:
    """run.json: of the run what still holds, of the photos what is new."""
    classes, n = judged.classifier.classes, len(judged.truth)
    of_class = labels.counts(judged.truth, len(classes)).tolist()
    skipped = len(judged.judging.skipped)
    return {
        **_of_training(judged.saved.record),
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": os.path.abspath(judged.saved.folder),
        "photos": os.path.abspath(photos),
        "classes": list(classes),
        "images": {"used": n, "train": 0, "validation": 0, "test": n, "skipped": skipped, "computed": n},
        "images_of_class": dict(zip(classes, of_class, strict=True)),
        "notes": [*judged.judging.notes, *notes_on_test_photos(judged.saved, judged.digests)],
        "evaluation": judged.evaluation.to_json(),
        "comparison": None if judged.comparison is None else judged.comparison.to_json(),
        "unfamiliar": judged.saved.record.get("unfamiliar"),
        "versions": versions(),
    }


def _of_training(about: RunRecord) -> RunRecord:
    """What a run says of its training."""
    made = {key: about.get(key) for key in ("arguments", "choice", "ladder", "model", "thresholds")}
    return cast(RunRecord, {key: value for key, value in made.items() if value is not None or key == "thresholds"})


def _predictions(findings: Findings, about: RunRecord) -> list[PredictionRow]:
    judged = findings.outcomes(about["thresholds"])
    classes = about["classes"]
    return [
        PredictionRow(
            name, SPLITS[TEST], labels.label_text(label, classes), labels.label_text(told, classes), float(p.max())
        )
        for name, label, told, p in zip(
            findings.names, judged.labels, judged.predictions, findings.probabilities, strict=True
        )
    ]
