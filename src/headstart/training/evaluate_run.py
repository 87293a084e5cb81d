"""A finished classifier on other labelled photos: the same evaluation and report, and how it compares with another run.

Takes a run and photos; gives an evaluation on those of them that the run has not learnt from, resaved or not, and whose
class it knows.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from headstart.cache_folder import default_cache_dir
from headstart.classifier.classifier import Classifier
from headstart.codes.store import Store
from headstart.data import datasets, labels
from headstart.data.datasets import Dataset
from headstart.data.decoding import Failure
from headstart.data.images import display_name, load_image
from headstart.data.splits import SPLITS, TEST
from headstart.data.tables import ImageRef, check_same, content_of, digest_of
from headstart.engines.hardware import Hardware
from headstart.errors import DataError, HeadstartError
from headstart.evaluation.comparison import Comparison, is_better
from headstart.evaluation.metrics import Evaluation, evaluate
from headstart.evaluation.multilabel import MultiLabelEvaluation, evaluate_multilabel
from headstart.files import write_output
from headstart.numerics.intervals import group_numbers, one_of_each
from headstart.numerics.pca import along_axes
from headstart.progress import Progress, underway
from headstart.record import RunRecord
from headstart.report.maps.layout import place_on
from headstart.report.review import pictures_of, review, with_probes, write_issues, write_report
from headstart.runs.findings import Findings
from headstart.runs.folder import HeldOut, draft_of, publish, reserve, write_tables
from headstart.runs.learnt_photos import LearntPhotos, find_learnt_photos
from headstart.runs.open import SavedRun, open_run
from headstart.runs.record_file import run_record_json
from headstart.trust.calibration import calibrate_probabilities
from headstart.versions import own_version, versions
from headstart.wording import listed

LEARNT, RESAVED = "it was learnt from", "nearly the same photo was learnt from"
UNKNOWN = "the classifier does not know its label"


@dataclass(frozen=True)
class RunEvaluation:
    """What a classifier does on other photos. comparison: with another run on the same photos; folder: where all lies."""

    evaluation: Evaluation | MultiLabelEvaluation
    comparison: Comparison | None
    about: RunRecord
    folder: Path | None


@dataclass(frozen=True)
class _Seen:
    """What a network says of n photos: rows of the dataset, and an array of each of its outputs.

    digests: the sha256 of each. learnt: rows of the dataset whose very bytes were learnt from, which nobody looked at.
    """

    rows: np.ndarray
    digests: list[bytes]
    outputs: dict[str, np.ndarray]
    learnt: list[int]
    failures: dict[int, Failure]


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
    store_dir = Path(cache) if cache is not None else default_cache_dir()
    place = reserve(output, photos, "evaluation") if write else contextlib.nullcontext()
    with place as folder, Store(store_dir) as store:
        with underway(progress, "list"):
            dataset = datasets.load_dataset(photos, is_learnt=False)
        classifier = saved.classifier(hardware)
        second = None if other is None else _comparable(other, classifier, hardware)
        runs = [saved] if other is None else [saved, other]
        learnt = {digest.tobytes() for run in runs for digest in run.findings.digests[run.findings.splits != TEST]}
        seen = _look(classifier, dataset, learnt, "evaluate", progress)
        again = None if second is None else _look_again(second, dataset, seen, progress)
        images = [dataset.images[i] for i in seen.rows]
        with underway(progress, "find_learnt_photos"):
            recognised = [
                find_learnt_photos(run, images, seen.digests, outputs["codes"], store, threads=threads)
                for run, outputs in zip(runs, (seen.outputs, again), strict=False)
                if outputs
            ]
        kept, skipped, notes = _kept(dataset, seen, classifier, recognised)
        notes += _of_test(saved, [seen.digests[i] for i in kept])
        truth = _labels_for(dataset, classifier)[seen.rows[kept]]
        groups = [recognised[0].groups[i] for i in kept]  # of each photo that judges: the same for copies of one photo
        evaluation = _evaluation(seen.outputs["probabilities"][kept], truth, classifier, groups)
        comparison = None
        if again is not None and second is not None:
            theirs = _is_right(again["probabilities"][kept], _labels_for(dataset, second)[seen.rows[kept]], second)
            ours = _is_right(seen.outputs["probabilities"][kept], truth, classifier)
            comparison = is_better(ours, theirs, groups=groups, name_a="this run", name_b=str(runs[-1].folder))
        about = _about(saved, photos, evaluation, truth, classifier, notes, comparison, len(skipped))
        findings = _findings(saved, dataset, seen, kept, truth, groups)
        ones = one_of_each(groups, np.column_stack([findings.probabilities, truth]))
        about["calibration"] = calibrate_probabilities(
            findings.probabilities[ones], truth[ones], saved.about.get("calibration")
        )
        if folder is not None:
            images = [images[i] for i in kept]
            pictures = pictures_of(findings, images, store, threads=threads, progress=progress)
            about["notes"] += store.notes
            with underway(progress, "review"):
                reviewed = review(classifier, findings, images, pictures, progress=progress)
            about = with_probes(about, reviewed)
            with underway(progress, "write"), draft_of(folder) as draft:
                rows = _predictions(findings, about)
                write_tables(draft, classifier.classes, rows, skipped)
                findings.save(draft)
                write_issues(draft, [])
                write_report(draft, about, findings, [], reviewed)
                write_output(draft / "run.json", run_record_json(about))
                publish(draft, folder)
        return RunEvaluation(evaluation, comparison, about, folder)


def _look(classifier: Classifier, dataset: Dataset, learnt: set[bytes], stage: str, progress: Progress) -> _Seen:
    """What the classifier says of every image of a dataset that can be used, but for those that were learnt from."""
    digests: dict[int, bytes] = {}

    def load(i: int, image: ImageRef) -> Any:
        content = content_of(image)
        if isinstance(content, Failure):
            return content
        digests[i] = digest_of(content)
        return None if digests[i] in learnt else load_image(content, classifier.preprocess)

    rows, outputs, were_learnt, failures = [], [], [], {}
    for result in classifier.engine.stream(dataset.images, load):
        if result.outputs is not None:
            classifier.check_outputs(result.outputs)
            rows.append(result.index)
            outputs.append(result.outputs)
        elif result.instead is None:
            were_learnt.append(result.index)
        else:
            failures[result.index] = result.instead
        progress(stage, result.index + 1, len(dataset.images))
    if not rows and not were_learnt:
        first = next(iter(failures.values())).reason
        raise DataError(f"none of the {len(dataset.images)} files can be used as an image; the first: {first}")
    stacked = {name: np.stack([o[name] for o in outputs]) for name in (outputs[0] if outputs else ())}
    return _Seen(np.array(rows, np.int64), [digests[i] for i in rows], stacked, were_learnt, failures)


def _look_again(classifier: Classifier, dataset: Dataset, seen: _Seen, progress: Progress) -> dict[str, np.ndarray]:
    """What another classifier says of the photos that were seen; raises DataError where they are others by now."""
    if not len(seen.rows):
        return {}
    images = [dataset.images[i] for i in seen.rows]
    those = replace(dataset, images=images, labels=dataset.labels[seen.rows], splits=dataset.splits[seen.rows])
    again = _look(classifier, those, set(), "compare", progress)
    if again.failures:
        i, failure = next(iter(again.failures.items()))
        raise DataError(f"{display_name(images[i])} could be used a moment ago, and cannot any more: {failure.reason}")
    check_same(images, seen.digests, again.digests, "the runs were compared")
    return again.outputs


def _labels_for(dataset: Dataset, classifier: Classifier) -> np.ndarray:
    """The labels as the classifier numbers its classes, -1 for one that it does not know; (n, k) of several labels."""
    at = {name: i for i, name in enumerate(classifier.classes)}
    if classifier.thresholds is not None:
        found = np.zeros((len(dataset.images), len(classifier.classes)), np.uint8)
        for i, name in enumerate(dataset.classes):
            if name in at:
                has = dataset.labels[:, i] if labels.are_many(dataset.labels) else dataset.labels == i
                found[:, at[name]] = has
        return found
    if labels.are_many(dataset.labels):
        raise DataError("these photos have several labels each, and the classifier tells one of each photo")
    return np.array([at.get(name, -1) for name in dataset.classes], np.int64)[dataset.labels]


def _kept(
    dataset: Dataset, seen: _Seen, classifier: Classifier, recognised: Sequence[LearntPhotos]
) -> tuple[np.ndarray, list[tuple[str, str]], list[str]]:
    """Which of the photos that were seen can judge, what is left out, and what to say of it."""
    truth = _labels_for(dataset, classifier)
    is_known = np.asarray(truth >= 0 if classifier.thresholds is None else truth.any(axis=1))
    is_left, rows = is_known[seen.rows], seen.rows
    for known in recognised:
        is_left = is_left & ~known.is_learnt
    learnt = np.array(seen.learnt, np.int64)
    read = np.sort(np.concatenate([rows, learnt]))
    named = (learnt[is_known[learnt]], rows[is_known[rows] & ~is_left], read[~is_known[read]])
    left_out = [(i, why) for which, why in zip(named, (LEARNT, RESAVED, UNKNOWN), strict=True) for i in which]
    failed = [(display_name(dataset.images[i]), f.reason) for i, f in seen.failures.items()]
    skipped = [*dataset.skipped, *failed, *((display_name(dataset.images[i]), why) for i, why in left_out)]
    notes = [*dataset.notes, *_notes(dataset, seen, classifier, Counter(why for _, why in left_out), is_known)]
    notes += dict.fromkeys(note for known in recognised for note in known.notes)
    if failed:
        what = "1 file cannot be used as a photo" if len(failed) == 1 else f"{len(failed):,} files cannot be used as photos"
        notes.append(f"{what}; the first: {failed[0][0]}: {failed[0][1]}")
    kept = np.flatnonzero(is_left)
    if not len(kept):
        raise DataError(
            f"none of these photos can judge: {'; '.join(notes)}. Its classes: {listed(classifier.classes, most=8)}"
        )
    return kept, skipped, notes


def _notes(
    dataset: Dataset, seen: _Seen, classifier: Classifier, n_left_out: Mapping[str, int], is_known: np.ndarray
) -> list[str]:
    """What to say of the photos that are left out, by reason, and of labels that cannot be judged."""
    notes = []
    for why, what in ((LEARNT, ""), (RESAVED, "are nearly the same as photos that ")):
        if n_left_out[why]:
            notes.append(f"{n_left_out[why]:,} of these photos {what}were learnt from, and are left out")
    unknown = [name for name in dataset.classes if name not in classifier.classes]
    if n_left_out[UNKNOWN]:
        note = f"{n_left_out[UNKNOWN]:,} photos are of no class that it knows ({listed(unknown)}), and are left out"
        is_new = ~is_known[seen.rows]
        if "unfamiliarity" in seen.outputs and is_new.any():
            flagged = float((seen.outputs["unfamiliarity"][is_new, 0] > 1).mean())
            which = "them" if is_new.sum() == n_left_out[UNKNOWN] else "those that it has not learnt from"
            note += f"; {100 * flagged:.1f} % of {which} it calls unfamiliar"
        notes.append(note)
    if unknown and is_known.any() and classifier.thresholds is not None:
        notes.append(f"whether a photo is {listed(unknown, 'or')} is not judged: it knows no such label")
    return notes


def _of_test(saved: SavedRun, digests: Sequence[bytes]) -> list[str]:
    """What to say of photos that judged the run before: they were not learnt from, and yet are nothing new."""
    findings = saved.findings
    tested = {digest.tobytes() for digest in findings.digests[findings.splits == TEST]}
    n = sum(digest in tested for digest in digests)
    if not n:
        return []
    if n == len(digests):
        return ["all photos that judge here are the run's own test photos, which have judged it before"]
    return [f"{n:,} of these photos are the run's own test photos, which have judged it before; the others are new to it"]


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


def _findings(
    saved: SavedRun, dataset: Dataset, seen: _Seen, kept: np.ndarray, truth: np.ndarray, groups: Sequence[bytes]
) -> Findings:
    """What is known of the new photos, in the run's own space and on its map."""
    known = saved.findings
    codes = seen.outputs["codes"][kept][:, : len(known.space_mean)]
    space = along_axes(codes, known.space_mean, known.space_axes)
    on_map = np.flatnonzero(np.isfinite(known.positions).all(axis=1))
    positions = np.full((len(kept), 2), np.nan, np.float32)
    if len(on_map):
        positions = place_on(space, known.space[on_map].astype(np.float32), known.positions[on_map])
    strange = seen.outputs.get("unfamiliarity")
    return Findings(
        names=tuple(display_name(dataset.images[i]) for i in seen.rows[kept]),
        labels=truth,
        splits=np.full(len(kept), TEST, np.int8),
        digests=np.frombuffer(b"".join(seen.digests[i] for i in kept), np.uint8).reshape(-1, 32),
        groups=group_numbers(groups),
        held_out=np.arange(len(kept)),
        probabilities=seen.outputs["probabilities"][kept],
        unfamiliarity=np.full(len(kept), np.nan, np.float32) if strange is None else strange[kept, 0],
        space=space.astype(np.float16),
        space_mean=known.space_mean,
        space_axes=known.space_axes,
        positions=positions,
    )


def _about(
    saved: SavedRun,
    photos: str | os.PathLike[str],
    evaluation: Evaluation | MultiLabelEvaluation,
    truth: np.ndarray,
    classifier: Classifier,
    notes: list[str],
    comparison: Comparison | None,
    n_skipped: int,
) -> RunRecord:
    """As run.json: of the run what still holds, of the photos what is new."""
    n, of_class = len(truth), labels.counts(truth, len(classifier.classes)).tolist()
    return {
        **_of_training(saved.about),
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": os.path.abspath(saved.folder),
        "photos": os.path.abspath(photos),
        "classes": list(classifier.classes),
        "images": {"used": n, "train": 0, "validation": 0, "test": n, "skipped": n_skipped, "computed": n},
        "images_of_class": dict(zip(classifier.classes, of_class, strict=True)),
        "notes": notes,
        "evaluation": evaluation.to_json(),
        "comparison": None if comparison is None else comparison.to_json(),
        "unfamiliar": saved.about.get("unfamiliar"),
        "versions": versions(),
    }


def _of_training(about: RunRecord) -> RunRecord:
    """What a run says of its training."""
    made = {key: about.get(key) for key in ("arguments", "choice", "ladder", "model", "thresholds")}
    return cast(RunRecord, {key: value for key, value in made.items() if value is not None or key == "thresholds"})


def _predictions(findings: Findings, about: RunRecord) -> list[HeldOut]:
    judged = findings.judged(about["thresholds"])
    classes = about["classes"]
    return [
        HeldOut(name, SPLITS[TEST], labels.label_text(label, classes), labels.label_text(told, classes), float(p.max()))
        for name, label, told, p in zip(
            findings.names, judged.labels, judged.predictions, findings.probabilities, strict=True
        )
    ]
