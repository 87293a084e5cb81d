"""What can be learnt from: the images that could be read, with their codes, labels and splits.

Takes a Dataset and its codes. It decides what is left out of learning, so that the test stays honest, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.codes.compute import Codes
from headstart.data import datasets, labels
from headstart.data.datasets import NO_CLASS, Dataset, Skipped
from headstart.data.images import display_name
from headstart.data.splits import TEST, assign_splits, contradictions, leaks
from headstart.data.tables import ImageRef
from headstart.errors import DataError
from headstart.wording import listed

VALIDATION_SHARE = 0.1  # drawn as test is; where nothing is fine-tuned, its images are learnt from as those of train are


@dataclass(frozen=True)
class TrainingSet:
    """The images that can be used, with their codes; classes without one are gone.

    rows: (n,) int64, of the codes, which ones these are. names: of the images, for people. codes: (n, d) float16. labels:
    see labels.py. digests: each image's sha256. groups: the same for images that are one, nearly the same ones too: they
    share a split and a fold. splits: (n,) positions in SPLITS. skipped: what was left out. notes: what the user should
    know.
    """

    rows: np.ndarray
    images: list[ImageRef]
    names: list[str]
    codes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    digests: list[bytes]
    groups: list[bytes]
    splits: np.ndarray
    skipped: list[Skipped]
    notes: list[str]


def untested(of_image: np.ndarray, n_classes: int, groups: Sequence[bytes], splits: np.ndarray) -> list[int]:
    """The classes that nothing judges: learnt from a single photo, copies aside, and none of the test split's is theirs.

    of_image: as TrainingSet.labels. groups, splits: of the images, see TrainingSet.
    """
    return [
        i
        for i, of_class in enumerate(labels.members(of_image, n_classes))
        if len({groups[row] for row in of_class.tolist()}) == 1 and not (splits[of_class] == TEST).any()
    ]


def training_set(
    dataset: Dataset, codes: Codes, groups: Sequence[bytes], where: str, *, seed: int, test: float
) -> TrainingSet:
    """Leave out what could not be used, and what would make the test dishonest, and say so.

    groups: of the codes' rows, see TrainingSet. where: the data's name, for messages. Raises DataError where too little is
    left.
    """
    images = dataset.images
    skipped = [*dataset.skipped, *(Skipped(display_name(images[i]), f.reason) for i, f in codes.failures.items())]
    notes = []
    if len(codes.index) == 0:
        first = next(iter(codes.failures.values())).reason
        raise DataError(f"none of the {len(images)} files of {where} can be used as an image; the first: {first}")
    of_image = dataset.labels[codes.index]
    present = labels.counts(of_image, len(dataset.classes)) > 0
    if not present.all():
        gone = [name for name, there in zip(dataset.classes, present, strict=True) if not there]
        notes.append(f"no image of {listed(map(repr, gone))} can be used; that is no class of this run")
        of_image = labels.only(of_image, present)
    classes = tuple(name for name, there in zip(dataset.classes, present, strict=True) if there)
    datasets.check_classes(of_image, classes, where)
    splits = assign_splits(dataset.splits[codes.index], groups, of_image, seed=seed, validation=VALIDATION_SHARE, test=test)
    names = [display_name(images[i]) for i in codes.index]
    contradicting = contradictions(of_image, codes.digests)
    if contradicting:
        first = listed(names[i] for i in contradicting[0])
        notes.append(f"{len(contradicting)} photos have more than one label, byte for byte the same; the first: {first}")
    notes += [f"{path}: {reason}" for path, reason in dataset.skipped if reason == NO_CLASS]
    leaking = leaks(splits, codes.digests)
    if len(leaking):
        notes.append(
            f"{len(leaking)} images of train or validation stand, byte for byte the same, in the test split of the data; "
            "they are left out of learning, so that the test stays honest"
        )
        skipped += [Skipped(names[i], "the very same image is in the test split") for i in leaking]
    kept = np.delete(np.arange(len(of_image)), leaking)
    alone = untested(of_image[kept], len(classes), [groups[i] for i in kept.tolist()], splits[kept])
    if len(alone) == len(classes):
        raise DataError(
            f"{where} has a single photo of each class, copies aside, so nothing is left to judge by; add photos, of one "
            "class at least"
        )
    learnt = labels.counts(of_image[kept][splits[kept] != TEST], len(classes))
    if not learnt.all():
        left = listed(repr(classes[i]) for i in np.flatnonzero(learnt == 0))
        raise DataError(f"{where} leaves {left} with no image to learn from; move some of its test images to train")
    return TrainingSet(
        kept,
        [images[codes.index[i]] for i in kept],
        [names[i] for i in kept],
        codes.values[kept] if len(leaking) else codes.values,
        of_image[kept],
        classes,
        [codes.digests[i] for i in kept],
        [groups[i] for i in kept.tolist()],
        splits[kept],
        skipped,
        notes,
    )
