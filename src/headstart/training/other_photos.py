"""What a finished classifier says of labelled photos, and which of them can judge it: those that it has not learnt from.

It decides what is left out of an evaluation: photos that were learnt from, resaved or not, photos of a class that the
classifier does not know, and files that cannot be used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.data import labels
from headstart.data.datasets import Dataset
from headstart.data.decoding import Failure
from headstart.data.images import display_name, load_image
from headstart.data.splits import TEST
from headstart.data.tables import ImageRef, check_same, content_of, digest_of
from headstart.errors import DataError
from headstart.progress import Progress
from headstart.runs.open import SavedRun
from headstart.runs.training_photos import TrainingPhotos
from headstart.wording import listed

LEARNT, RESAVED = "it was learnt from", "nearly the same photo was learnt from"
UNKNOWN = "the classifier does not know its label"


@dataclass(frozen=True)
class Answers:
    """What a classifier says of n photos: rows of the dataset, and an array of each of its network's outputs.

    digests: the sha256 of each. train_rows: rows of the dataset whose very bytes were learnt from: not classified.
    """

    rows: np.ndarray
    digests: list[bytes]
    outputs: dict[str, np.ndarray]
    train_rows: list[int]
    failures: dict[int, Failure]


def classify_photos(
    classifier: Classifier, dataset: Dataset, train_digests: set[bytes], stage: str, progress: Progress
) -> Answers:
    """Classify every image of a dataset that can be used, but for those whose very bytes were learnt from.

    stage: what progress calls it. Raises DataError where none can be used.
    """
    digests: dict[int, bytes] = {}

    def load(i: int, image: ImageRef) -> Any:
        content = content_of(image)
        if isinstance(content, Failure):
            return content
        digests[i] = digest_of(content)
        return None if digests[i] in train_digests else load_image(content, classifier.preprocess)

    rows, outputs, train_rows, failures = [], [], [], {}
    for result in classifier.engine.stream(dataset.images, load):
        if result.outputs is not None:
            classifier.check_outputs(result.outputs)
            rows.append(result.index)
            outputs.append(result.outputs)
        elif result.instead is None:
            train_rows.append(result.index)
        else:
            failures[result.index] = result.instead
        progress(stage, result.index + 1, len(dataset.images))
    if not rows and not train_rows:
        first = next(iter(failures.values())).reason
        raise DataError(f"none of the {len(dataset.images)} files can be used as an image; the first: {first}")
    stacked = {name: np.stack([o[name] for o in outputs]) for name in (outputs[0] if outputs else ())}
    return Answers(np.array(rows, np.int64), [digests[i] for i in rows], stacked, train_rows, failures)


def classify_again(classifier: Classifier, dataset: Dataset, answers: Answers, progress: Progress) -> dict[str, np.ndarray]:
    """Classify the same photos with another classifier; raises DataError where they have changed by now."""
    if not len(answers.rows):
        return {}
    images = [dataset.images[i] for i in answers.rows]
    those = replace(dataset, images=images, labels=dataset.labels[answers.rows], splits=dataset.splits[answers.rows])
    again = classify_photos(classifier, those, set(), "compare", progress)
    if again.failures:
        i, failure = next(iter(again.failures.items()))
        raise DataError(f"{display_name(images[i])} could be used a moment ago, and cannot any more: {failure.reason}")
    check_same(images, answers.digests, again.digests, "the runs were compared")
    return again.outputs


def labels_for(dataset: Dataset, classifier: Classifier) -> np.ndarray:
    """The labels as the classifier numbers its classes, -1 for one that it does not know; (n, k) of several labels."""
    at = {name: i for i, name in enumerate(classifier.classes)}
    if classifier.thresholds is not None:
        indicators = np.zeros((len(dataset.images), len(classifier.classes)), np.uint8)
        for i, name in enumerate(dataset.classes):
            if name in at:
                has = dataset.labels[:, i] if labels.are_many(dataset.labels) else dataset.labels == i
                indicators[:, at[name]] = has
        return indicators
    if labels.are_many(dataset.labels):
        raise DataError("these photos have several labels each, and the classifier tells one of each photo")
    return np.array([at.get(name, -1) for name in dataset.classes], np.int64)[dataset.labels]


@dataclass(frozen=True)
class JudgingPhotos:
    """Which photos can judge. positions: of the answers; skipped: what was left out, and why; notes: for the user."""

    positions: np.ndarray
    skipped: list[tuple[str, str]]
    notes: list[str]


def select_judging(
    dataset: Dataset, answers: Answers, classifier: Classifier, train_photos: Sequence[TrainingPhotos]
) -> JudgingPhotos:
    """Select the photos that can judge; train_photos: which of the answers' photos each run has learnt from.

    Raises DataError where there is none.
    """
    truth = labels_for(dataset, classifier)
    is_known = np.asarray(truth >= 0 if classifier.thresholds is None else truth.any(axis=1))
    can_judge, rows = is_known[answers.rows], answers.rows
    for photos in train_photos:
        can_judge = can_judge & ~photos.is_training
    train_rows = np.array(answers.train_rows, np.int64)
    read = np.sort(np.concatenate([rows, train_rows]))
    named = (train_rows[is_known[train_rows]], rows[is_known[rows] & ~can_judge], read[~is_known[read]])
    left_out = [(i, why) for which, why in zip(named, (LEARNT, RESAVED, UNKNOWN), strict=True) for i in which]
    failed = [(display_name(dataset.images[i]), f.reason) for i, f in answers.failures.items()]
    skipped = [*dataset.skipped, *failed, *((display_name(dataset.images[i]), why) for i, why in left_out)]
    notes = [*dataset.notes, *_notes(dataset, answers, classifier, Counter(why for _, why in left_out), is_known)]
    notes += dict.fromkeys(note for photos in train_photos for note in photos.notes)
    if failed:
        what = "1 file cannot be used as a photo" if len(failed) == 1 else f"{len(failed):,} files cannot be used as photos"
        notes.append(f"{what}; the first: {failed[0][0]}: {failed[0][1]}")
    positions = np.flatnonzero(can_judge)
    if not len(positions):
        raise DataError(
            f"none of these photos can judge: {'; '.join(notes)}. Its classes: {listed(classifier.classes, most=8)}"
        )
    return JudgingPhotos(positions, skipped, notes)


def _notes(
    dataset: Dataset, answers: Answers, classifier: Classifier, n_left_out: Mapping[str, int], is_known: np.ndarray
) -> list[str]:
    """What to say of the photos that are left out, by reason, and of labels that cannot be judged."""
    notes = []
    for why, what in ((LEARNT, ""), (RESAVED, "are nearly the same as photos that ")):
        if n_left_out[why]:
            notes.append(f"{n_left_out[why]:,} of these photos {what}were learnt from, and are left out")
    unknown = [name for name in dataset.classes if name not in classifier.classes]
    if n_left_out[UNKNOWN]:
        note = f"{n_left_out[UNKNOWN]:,} photos are of no class that it knows ({listed(unknown)}), and are left out"
        is_new = ~is_known[answers.rows]
        if "unfamiliarity" in answers.outputs and is_new.any():
            flagged = float((answers.outputs["unfamiliarity"][is_new, 0] > 1).mean())
            which = "them" if is_new.sum() == n_left_out[UNKNOWN] else "those that it has not learnt from"
            note += f"; {100 * flagged:.1f} % of {which} it calls unfamiliar"
        notes.append(note)
    if unknown and is_known.any() and classifier.thresholds is not None:
        notes.append(f"whether a photo is {listed(unknown, 'or')} is not judged: it knows no such label")
    return notes


def notes_on_test_photos(saved: SavedRun, digests: Sequence[bytes]) -> list[str]:
    """Which of the photos have judged the run before: they were not learnt from, and yet are nothing new."""
    findings = saved.findings
    tested = {digest.tobytes() for digest in findings.digests[findings.splits == TEST]}
    n = sum(digest in tested for digest in digests)
    if not n:
        return []
    if n == len(digests):
        return ["all photos that judge here are the run's own test photos, which have judged it before"]
    return [f"{n:,} of these photos are the run's own test photos, which have judged it before; the others are new to it"]
