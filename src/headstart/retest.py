"""A finished classifier on other labelled photos: the same evaluation and report, and how it compares with another run.

Takes a run and photos; gives an evaluation on those of them that the run has not learnt from. It decides which those are: no
photo that is one that was learnt from, resaved or not.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart import datasets, labels
from headstart.calibration import calibrate_probabilities
from headstart.classifier import Classifier
from headstart.codes import Progress, Store, default_cache_dir
from headstart.datasets import Dataset
from headstart.duplicates import near_duplicates
from headstart.engine import Hardware
from headstart.errors import DataError, HeadstartError
from headstart.evaluate import Comparison, Evaluation, MultiLabelEvaluation, evaluate, evaluate_multilabel, is_better
from headstart.files import write_output
from headstart.findings import Findings
from headstart.glance import glance_at
from headstart.images import Failure, display_name, load_image
from headstart.likeness import MOST_COMPARED
from headstart.map import along_axes, place_on
from headstart.review import pictures_of, review, with_probes, write_issues, write_report
from headstart.runs import HeldOut, check_free, draft_of, own_version, publish, versions, write_tables
from headstart.saved import SavedRun, open_run
from headstart.splits import SPLITS, TEST
from headstart.tables import ImageRef, content_of

LEARNT, RESAVED = "it was learnt from", "nearly the same photo was learnt from"
UNKNOWN = "the classifier does not know its label"


@dataclass(frozen=True)
class Retest:
    """What a classifier does on other photos. comparison: with another run on the same photos; folder: where all lies."""

    evaluation: Evaluation | MultiLabelEvaluation
    comparison: Comparison | None
    about: dict[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class _Seen:
    """What a network says of n photos that could be used: rows of the dataset, and an array of each of its outputs."""

    rows: np.ndarray
    digests: np.ndarray
    outputs: dict[str, np.ndarray]
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
) -> Retest:
    """Evaluate a run's classifier on labelled photos that it has not learnt from, all splits together.

    run, against: run folders; with both, they are compared on the photos that neither has learnt from (McNemar's test).
    photos: as train takes them; those of other classes, and those that were learnt from, are left out and told. output: the
    folder to write the report into, by default a new one named after the photos; write: False writes nothing. cache, device,
    threads, precision, progress: as in training.train. Raises HeadstartError for anything that the caller can mend.
    """
    if output is not None:
        check_free(Path(output))
    hardware, saved = Hardware(device, threads, precision), open_run(run)
    other = None if against is None else open_run(against)
    dataset = datasets.load_dataset(photos, is_learnt=False)
    classifier = saved.classifier(hardware)
    seen = _look(classifier, dataset, "evaluate", progress)
    store_dir = Path(cache) if cache is not None else default_cache_dir()
    resaved = _resaved(dataset, seen, saved, store_dir, threads)
    kept, skipped, notes = _kept(dataset, seen, classifier, saved, other, resaved)
    truth = _labels_for(dataset, classifier)[seen.rows[kept]]
    evaluation = _evaluation(seen.outputs["probabilities"][kept], truth, classifier)
    comparison = None
    if other is not None:
        comparison = _compared(classifier, other, dataset, seen, kept, truth, hardware, progress)
    about = _about(saved, photos, evaluation, truth, classifier, notes, comparison, len(skipped))
    findings = _findings(saved, dataset, seen, kept, truth)
    about["calibration"] = calibrate_probabilities(findings.probabilities, truth, saved.about.get("calibration"))
    folder = None
    if write:
        images = [dataset.images[i] for i in seen.rows[kept]]
        with Store(store_dir) as store:
            pictures = pictures_of(findings, images, store, threads=threads, progress=progress)
        reviewed = review(classifier, findings, images, pictures, progress=progress)
        about = with_probes(about, reviewed)
        with draft_of(None if output is None else Path(output)) as draft:
            rows = _predictions(findings, about)
            write_tables(draft, classifier.classes, rows, skipped)
            findings.save(draft)
            write_issues(draft, [])
            write_report(draft, about, findings, [], reviewed)
            write_output(draft / "run.json", json.dumps(about, indent=2) + "\n")
            folder = publish(draft, None if output is None else Path(output), photos, "evaluation")
    return Retest(evaluation, comparison, about, folder)


def _look(classifier: Classifier, dataset: Dataset, stage: str, progress: Progress) -> _Seen:
    """What the classifier says of every image of a dataset that can be used."""
    digests: dict[int, bytes] = {}

    def load(i: int, image: ImageRef) -> Any:
        content = content_of(image)
        if isinstance(content, Failure):
            return content
        digests[i] = sha256(content if isinstance(content, bytes) else np.asarray(content).tobytes()).digest()
        return load_image(content, classifier.preprocess)

    rows, outputs, failures = [], [], {}
    for result in classifier.engine.stream(dataset.images, load):
        if result.outputs is None:
            failures[result.index] = result.instead
        else:
            classifier.check_outputs(result.outputs)
            rows.append(result.index)
            outputs.append(result.outputs)
        progress(stage, result.index + 1, len(dataset.images))
    if not rows:
        first = next(iter(failures.values())).reason
        raise DataError(f"none of the {len(dataset.images)} files can be used as an image; the first: {first}")
    stacked = {name: np.stack([o[name] for o in outputs]) for name in outputs[0]}
    found = np.frombuffer(b"".join(digests[i] for i in rows), np.uint8).reshape(-1, 32)
    return _Seen(np.array(rows, np.int64), found, stacked, failures)


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


def _resaved(dataset: Dataset, seen: _Seen, saved: SavedRun, store_dir: Path, threads: int | None) -> np.ndarray:
    """(n,) whether a photo is nearly the same as one that was learnt from: resaved, resized, cropped a little, mirrored.

    Photos that were learnt from are looked at where they lie, or where the store still has their small pictures.
    """
    known, is_resaved = saved.findings, np.zeros(len(seen.rows), bool)
    learnt = np.flatnonzero(known.splits != TEST)
    if len(learnt) + len(seen.rows) > MOST_COMPARED:
        return is_resaved
    codes = along_axes(seen.outputs["codes"][:, : len(known.space_mean)], known.space_mean, known.space_axes)
    rows = np.concatenate([known.space[learnt].astype(np.float32), codes]) @ known.space_axes.T + known.space_mean
    learnt_images: list[Any] = [b"" if saved.images[i] is None else saved.images[i] for i in learnt]
    digests = [digest.tobytes() for digest in (*known.digests[learnt], *seen.digests)]
    with Store(store_dir) as store:
        glances = glance_at([*learnt_images, *(dataset.images[i] for i in seen.rows)], digests, store, threads=threads)
    for first, second, _ in near_duplicates(rows.astype(np.float16), glances, digests, threads=threads):
        if first < len(learnt) <= second:
            is_resaved[second - len(learnt)] = True
    return is_resaved


def _kept(
    dataset: Dataset,
    seen: _Seen,
    classifier: Classifier,
    saved: SavedRun,
    other: SavedRun | None,
    resaved: np.ndarray,
) -> tuple[np.ndarray, list[tuple[str, str]], list[str]]:
    """Which of the photos that were seen can judge, what is left out, and what to say of it."""
    learnt = {d.tobytes() for run in (saved, other) if run for d in run.findings.digests[run.findings.splits != TEST]}
    is_same = np.array([d.tobytes() in learnt for d in seen.digests])
    is_learnt = is_same | resaved
    truth = _labels_for(dataset, classifier)[seen.rows]
    is_known = truth >= 0 if classifier.thresholds is None else truth.any(axis=1)
    names = [display_name(dataset.images[i]) for i in seen.rows]
    failed = [(display_name(dataset.images[i]), f.reason) for i, f in seen.failures.items()]
    skipped = [*dataset.skipped, *failed]
    skipped += [(names[i], LEARNT if is_same[i] else RESAVED) for i in np.flatnonzero(is_learnt & is_known)]
    skipped += [(names[i], UNKNOWN) for i in np.flatnonzero(~is_known)]
    notes = [
        *dataset.notes,
        *_notes(dataset, seen, classifier, (is_same & is_known, resaved & ~is_same & is_known), is_known),
    ]
    if failed:
        notes.append(f"{len(failed):,} files cannot be used as photos; the first: {failed[0][0]}: {failed[0][1]}")
    kept = np.flatnonzero(~is_learnt & is_known)
    if not len(kept):
        raise DataError(
            f"none of these photos can judge: {'; '.join(notes)}. Its classes: {', '.join(classifier.classes[:8])}"
        )
    return kept, skipped, notes


def _notes(
    dataset: Dataset,
    seen: _Seen,
    classifier: Classifier,
    is_learnt: tuple[np.ndarray, np.ndarray],
    is_known: np.ndarray,
) -> list[str]:
    """What to say of the photos that were seen and are left out, and of labels that cannot be judged."""
    notes = []
    for which, what in zip(is_learnt, ("", "nearly the same as photos that "), strict=True):
        if which.any():
            notes.append(
                f"{int(which.sum()):,} of these photos {'are ' if what else ''}{what}were learnt from, and are left out"
            )
    unknown = [name for name in dataset.classes if name not in classifier.classes]
    if not is_known.all():
        note = (
            f"{int((~is_known).sum()):,} photos are of no class that it knows ({', '.join(unknown[:5])}), and are left out"
        )
        if "unfamiliarity" in seen.outputs:
            flagged = float((seen.outputs["unfamiliarity"][~is_known, 0] > 1).mean())
            note += f"; {100 * flagged:.1f} % of them it calls unfamiliar"
        notes.append(note)
    if unknown and is_known.any() and classifier.thresholds is not None:
        notes.append(f"whether a photo is {' or '.join(unknown[:5])} is not judged: it knows no such label")
    return notes


def _evaluation(probabilities: np.ndarray, truth: np.ndarray, classifier: Classifier) -> Evaluation | MultiLabelEvaluation:
    if classifier.thresholds is None:
        return evaluate(probabilities, truth, classifier.classes)
    return evaluate_multilabel(probabilities, truth, classifier.classes, classifier.thresholds)


def _is_right(probabilities: np.ndarray, truth: np.ndarray, classifier: Classifier) -> np.ndarray:
    if classifier.thresholds is None:
        return probabilities.argmax(axis=1) == truth
    return ((probabilities >= classifier.thresholds) == (truth > 0)).all(axis=1)


def _compared(
    classifier: Classifier,
    other: SavedRun,
    dataset: Dataset,
    seen: _Seen,
    kept: np.ndarray,
    truth: np.ndarray,
    hardware: Hardware,
    progress: Progress,
) -> Comparison:
    """Compare two runs' classifiers on the same photos."""
    second = other.classifier(hardware)
    if set(second.classes) != set(classifier.classes) or (second.thresholds is None) != (classifier.thresholds is None):
        raise HeadstartError(
            f"{other.folder} tells {', '.join(second.classes[:5])} apart, the first run "
            f"{', '.join(classifier.classes[:5])}; only runs of the same classes can be compared"
        )
    rows = seen.rows[kept]
    those = replace(
        dataset, images=[dataset.images[i] for i in rows], labels=dataset.labels[rows], splits=dataset.splits[rows]
    )
    again = _look(second, those, "compare", progress)
    both = again.rows
    ours = _is_right(seen.outputs["probabilities"][kept][both], truth[both], classifier)
    theirs = _is_right(again.outputs["probabilities"], _labels_for(those, second)[both], second)
    return is_better(ours, theirs, name_a="this run", name_b=str(other.folder))


def _findings(saved: SavedRun, dataset: Dataset, seen: _Seen, kept: np.ndarray, truth: np.ndarray) -> Findings:
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
        digests=seen.digests[kept],
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
) -> dict[str, Any]:
    """As run.json: of the run what still holds, of the photos what is new."""
    n, of_class = len(truth), labels.counts(truth, len(classifier.classes)).tolist()
    made = {key: saved.about.get(key) for key in ("arguments", "choice", "ladder", "model", "thresholds")}
    return {
        **made,
        "headstart": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": os.path.abspath(saved.folder),
        "photos": os.path.abspath(photos),
        "classes": list(classifier.classes),
        "images": {"used": n, "train": 0, "validation": 0, "test": n, "skipped": n_skipped, "computed": n},
        "images_of_class": dict(zip(classifier.classes, of_class, strict=True)),
        "notes": notes,
        "evaluation": evaluation.to_json(),
        "comparison": comparison and comparison.to_json(),
        "unfamiliar": saved.about.get("unfamiliar"),
        "versions": versions(),
    }


def _predictions(findings: Findings, about: dict[str, Any]) -> list[HeldOut]:
    judged = findings.judged(about["thresholds"])
    classes = about["classes"]
    return [
        HeldOut(name, SPLITS[TEST], labels.named(label, classes), labels.named(told, classes), float(p.max()))
        for name, label, told, p in zip(
            findings.names, judged.labels, judged.predictions, findings.probabilities, strict=True
        )
    ]
