"""The training set: the images that can be used, with their codes, labels, groups and splits, and what is left out and why.

It decides what a training leaves out so that its test stays honest: unreadable files, classes without images, and images of
which the test split has the very same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from headstart.checks.photo_groups import PhotoGroups
from headstart.codes.compute import Codes
from headstart.codes.workspace import Workspace, check_readable
from headstart.data import datasets, labels
from headstart.data.datasets import NO_CLASS, Dataset, Skipped
from headstart.data.images import display_name
from headstart.data.splits import TEST, VALIDATION, assign_splits, contradictions, leaks
from headstart.data.tables import ImageRef
from headstart.errors import DataError
from headstart.training.options import TrainOptions
from headstart.training.steps.load import LabelledPhotos
from headstart.wording import counted, listed

VALIDATION_SHARE = 0.1  # drawn as test is; where nothing is fine-tuned, its images are learnt from as those of train are


@dataclass(frozen=True)
class TrainingSet:
    """The images that can be used, with their codes; classes without an image are gone.

    rows: (n,) int64, of the codes that were computed, which ones these are. places: (n,) int64, in the data set. names: of
    the images, for people. codes: (n, d) float16. labels: see data/labels.py. digests: each image's sha256. groups: the same
    for copies and near duplicates, which share a split and a fold. splits: (n,) positions in SPLITS. skipped: what was left
    out. notes: what the user should know.
    has_validation: whether the data gives a validation split beside its test split, by which all choices are made.
    """

    rows: np.ndarray
    places: np.ndarray
    images: list[ImageRef]
    names: list[str]
    codes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    digests: list[bytes]
    groups: list[bytes]
    splits: np.ndarray
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    has_validation: bool = False

    @cached_property
    def learn(self) -> np.ndarray:
        """The rows of the images that are learnt from or chosen by: all but the test split's."""
        return np.flatnonzero(self.splits != TEST)

    @cached_property
    def validation(self) -> np.ndarray | None:
        """Which of the rows of `learn` the choices are made by, (m,) bool; None where cross-validation does."""
        return self.splits[self.learn] == VALIDATION if self.has_validation else None

    @cached_property
    def test(self) -> np.ndarray:
        """The rows of the test split."""
        return np.flatnonzero(self.splits == TEST)

    @cached_property
    def learn_groups(self) -> list[bytes]:
        """The groups of the images that are learnt from."""
        return [self.groups[i] for i in self.learn]

    def select(self, rows: np.ndarray, *, skipped: Sequence[Skipped] = (), notes: Sequence[str] = ()) -> TrainingSet:
        """The training set of some rows, in order; skipped, notes: added to those that are there."""
        return TrainingSet(
            self.rows[rows],
            self.places[rows],
            [self.images[i] for i in rows],
            [self.names[i] for i in rows],
            self.codes[rows] if len(rows) < len(self.codes) else self.codes,
            self.labels[rows],
            self.classes,
            [self.digests[i] for i in rows],
            [self.groups[i] for i in rows.tolist()],
            self.splits[rows],
            (*self.skipped, *skipped),
            (*self.notes, *notes),
            self.has_validation,
        )


def build_training_set(
    photos: LabelledPhotos,
    codes: Codes,
    copies: PhotoGroups,
    options: TrainOptions,
    workspace: Workspace,
    more_notes: Sequence[str] = (),
) -> TrainingSet:
    """Deal the photos that could be read into splits, and leave out what would make the test dishonest.

    codes: of the dataset's images; copies: their groups. more_notes: on the backbones, which come last. Raises DataError
    where too little is left.
    """
    with workspace.stage("splits"):
        data = _deal(photos, codes, copies, options)
        notes = [
            *photos.as_given.notes,
            *_notes_on_fixes(photos.as_given, photos.dataset, data),
            *_notes_on_validation(data, options),
            *copies.notes,
            *_notes_on_single_photos(data, untested(data)),
            *more_notes,
        ]
        return replace(data, notes=(*data.notes, *notes))


def _deal(photos: LabelledPhotos, codes: Codes, copies: PhotoGroups, options: TrainOptions) -> TrainingSet:
    """Deal what can be read into splits, without what the test split has the very bytes of."""
    dataset, where = photos.dataset, photos.where
    check_readable(codes, len(dataset.images), where)
    of_image, classes, notes = _present_classes(dataset, codes, where)
    splits = assign_splits(
        dataset.splits[codes.index],
        copies.groups,
        of_image,
        seed=options.seed,
        validation=VALIDATION_SHARE,
        test=options.test,
    )
    images = [dataset.images[i] for i in codes.index]
    names = [display_name(image) for image in images]
    unreadable = [Skipped(display_name(dataset.images[i]), f.reason) for i, f in codes.failures.items()]
    notes += _notes_on_labels(dataset, of_image, codes.digests, names)
    every = TrainingSet(
        np.arange(len(images)),
        codes.index,
        images,
        names,
        codes.values,
        of_image,
        classes,
        codes.digests,
        copies.groups,
        splits,
        (*dataset.skipped, *unreadable),
        tuple(notes),
        bool((dataset.splits[codes.index] == VALIDATION).any()),  # alone, it would be the test split: load.py
    )
    data = _without_leaks(every)
    _check_enough(data, where)
    return data


def _present_classes(dataset: Dataset, codes: Codes, where: str) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """The labels of the images that can be read, the classes that are among them, and a note on those that are not."""
    of_image, notes = dataset.labels[codes.index], []
    is_present = labels.counts(of_image, len(dataset.classes)) > 0
    if not is_present.all():
        gone = [name for name, is_there in zip(dataset.classes, is_present, strict=True) if not is_there]
        notes.append(f"no image of {listed(map(repr, gone))} can be used; that is no class of this run")
        of_image = labels.only(of_image, is_present)
    classes = tuple(name for name, is_there in zip(dataset.classes, is_present, strict=True) if is_there)
    datasets.check_classes(of_image, classes, where)
    return of_image, classes, notes


def _notes_on_labels(
    dataset: Dataset, of_image: np.ndarray, digests: Sequence[bytes], names: Sequence[str]
) -> Iterator[str]:
    """Which photos have more than one label, and which files lie where no class is."""
    contradicting = contradictions(of_image, list(digests))
    if contradicting:
        first = listed(names[i] for i in contradicting[0])
        yield f"{len(contradicting)} photos have more than one label, byte for byte the same; the first: {first}"
    yield from (f"{path}: {reason}" for path, reason in dataset.skipped if reason == NO_CLASS)


def _without_leaks(data: TrainingSet) -> TrainingSet:
    """Leave out what would be learnt from and stands, byte for byte the same, in the test split that the data gives."""
    leaking = leaks(data.splits, data.digests)
    if not len(leaking):
        return data
    note = (
        f"{len(leaking)} images of train or validation stand, byte for byte the same, in the test split of the data; "
        "they are left out of learning, so that the test stays honest"
    )
    skipped = [Skipped(data.names[i], "the very same image is in the test split") for i in leaking]
    return data.select(np.delete(np.arange(len(data.labels)), leaking), skipped=skipped, notes=[note])


def _check_enough(data: TrainingSet, where: str) -> None:
    """Raise DataError where nothing is left to judge by, or nothing of a class to learn from."""
    if len(untested(data)) == len(data.classes):
        raise DataError(
            f"{where} has a single photo of each class, copies aside, so nothing is left to judge by; add photos, of one "
            "class at least"
        )
    n_of_class = labels.counts(data.labels[data.learn], len(data.classes))
    if not n_of_class.all():
        empty = listed(repr(data.classes[i]) for i in np.flatnonzero(n_of_class == 0))
        raise DataError(f"{where} leaves {empty} with no image to learn from; move some of its test images to train")


def untested(data: TrainingSet) -> list[int]:
    """The classes that nothing judges: learnt from a single photo, copies aside, and none of the test split's is theirs."""
    return [
        i
        for i, of_class in enumerate(labels.members(data.labels, len(data.classes)))
        if len({data.groups[row] for row in of_class.tolist()}) == 1 and not (data.splits[of_class] == TEST).any()
    ]


def _notes_on_fixes(before: Dataset, after: Dataset, data: TrainingSet) -> Iterator[str]:
    """What fixes did, and to the photos that judge: their like proposed the fixes, so they judge the more kindly."""
    if before is after:
        return
    was = dict(
        zip(map(display_name, before.images), (labels.label_text(x, before.classes) for x in before.labels), strict=True)
    )
    is_new = [
        was.get(name) not in (None, labels.label_text(x, data.classes))
        for name, x in zip(data.names, data.labels, strict=True)
    ]
    n_tested = int((np.array(is_new) & (data.splits == TEST)).sum())
    n_excluded = len(before.images) - len(after.images)
    note = (
        f"by the fixes, {counted(sum(is_new), 'photo')} got another label, and {counted(n_excluded, 'photo')} left the data"
    )
    if n_tested:
        note += (
            f"; {n_tested:,} of the former judge: photos like them proposed that, so the result is a little kinder for it"
        )
    yield note


def _notes_on_validation(data: TrainingSet, options: TrainOptions) -> Iterator[str]:
    """What the validation photos of the data are for, where it has a test split as well."""
    if data.has_validation:
        n = counted(int((data.splits == VALIDATION).sum()), "validation photo")
        if options.learn_from_validation:
            yield f"{n} decide all choices, and are learnt from at the end"
        else:
            yield f"{n} decide all choices, and are not learnt from; to learn from them at the end: --learn-from-val"


def _notes_on_single_photos(data: TrainingSet, untested: Sequence[int]) -> Iterator[str]:
    """Which classes no number speaks of, since each is learnt from one photo alone."""
    if not untested:
        return
    has, it_is = ("has a single photo", "it is") if len(untested) == 1 else ("have a single photo each", "they are")
    yield (
        f"{listed(repr(data.classes[i]) for i in untested)} {has}, copies aside: {it_is} learnt, but there is no other "
        f"photo to judge by, so no number here says how well {it_is} told; add photos"
    )
