"""Writes a run: builds the classifier, reviews it for the report, and publishes the folder when all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from headstart.checks.photo_groups import PhotoGroups
from headstart.classifier.classifier import Classifier
from headstart.classifier.model_file import FILE_NAME
from headstart.evaluation.metrics import Evaluation
from headstart.evaluation.multilabel import MultiLabelEvaluation
from headstart.files import write_output
from headstart.record import RunRecord
from headstart.report.review import Review, review, with_probes, write_issues, write_report
from headstart.report.tensorboard.write import write_events
from headstart.runs.folder import draft_of, publish, write_tables
from headstart.runs.record_file import run_record_json
from headstart.runs.training_photos import write_training_photos
from headstart.training.steps.held_out import HeldOutJudged
from headstart.training.steps.look import RunFindings
from headstart.training.steps.run_record import compose_metadata
from headstart.training.steps.trust import Trained


@dataclass(frozen=True)
class Run:
    """What `train` gives: where the run folder is, the classifier, and how good it is. about: what run.json says."""

    folder: Path
    classifier: Classifier
    evaluation: Evaluation | MultiLabelEvaluation
    about: RunRecord


def build_classifier(record: RunRecord, trained: Trained) -> tuple[Classifier, RunRecord]:
    """Join backbone, head and what notices unfamiliar photos into one file; gives the record with the file's sha256."""
    with trained.workspace.stage("build"):
        classifier = Classifier.build(
            trained.representation,
            trained.choice.head,
            trained.data.classes,
            compose_metadata(record, trained),
            trained.workspace.hardware,
            unfamiliarity=trained.trust.unfamiliarity,
        )
        digest = sha256(classifier.content).hexdigest()
        return classifier, {**record, "model": {"file": FILE_NAME, "bytes": len(classifier.content), "sha256": digest}}


def write_run(
    folder: Path,
    classifier: Classifier,
    record: RunRecord,
    trained: Trained,
    judged: HeldOutJudged,
    findings: RunFindings,
    copies: PhotoGroups,
    *,
    has_report: bool,
) -> Run:
    """Review the classifier and write the run folder; run.json is written last, and the folder gets its name then.

    has_report: whether to write what people look at: report.html and TensorBoard's files.
    """
    workspace, data = trained.workspace, trained.data
    reviewed = None
    if has_report:
        with workspace.stage("review"):
            pictures = [copies.image_stats.pictures[i] for i in data.rows]
            reviewed = review(
                classifier, findings.of_photos, data.images, pictures, results=workspace.results, progress=workspace.progress
            )
            record = with_probes(record, reviewed)
    with draft_of(folder) as draft:
        with workspace.stage("write"):
            classifier.save(draft / FILE_NAME)
            write_tables(draft, data.classes, judged.held_out, data.skipped)
            findings.of_photos.save(draft)
            write_training_photos(draft, copies.image_stats.only(data.rows[data.learn]))
            write_issues(draft, findings.issues)
            if reviewed is not None:
                _write_for_people(draft, {**record, "seconds": workspace.seconds}, classifier, trained, findings, reviewed)
        record = {**record, "seconds": workspace.seconds}
        write_output(draft / "run.json", run_record_json(record))
        return Run(publish(draft, folder), classifier, judged.evaluation, record)


def _write_for_people(
    draft: Path, record: RunRecord, classifier: Classifier, trained: Trained, findings: RunFindings, reviewed: Review
) -> None:
    """Write TensorBoard's files and the report, neither of which knows how long they take themselves."""
    write_events(
        draft / "tensorboard",
        record,
        findings.of_photos,
        trained.choice.head,
        classifier.content,
        pictures=reviewed.pictures,
    )
    write_report(draft, record, findings.of_photos, findings.issues, reviewed)
