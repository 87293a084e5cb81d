"""Remarks: what a training should not pass over in silence, a sentence each, for its notes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.data import labels
from headstart.data.datasets import Dataset
from headstart.data.images import display_name
from headstart.data.splits import TEST, VALIDATION
from headstart.selection.cross_validation import Choice
from headstart.training.learnable import TrainingSet, untested
from headstart.wording import counted, listed


def of_fixes(before: Dataset, after: Dataset, data: TrainingSet) -> Iterator[str]:
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
    told = (
        f"by the fixes, {counted(sum(is_new), 'photo')} got another label, and {counted(n_excluded, 'photo')} left the data"
    )
    if n_tested:
        told += (
            f"; {n_tested:,} of the former judge: photos like them proposed that, so the result is a little kinder for it"
        )
    yield told


def of_splits(dataset: Dataset) -> Iterator[str]:
    """What many expect to judge, and what does not."""
    if (dataset.splits == VALIDATION).any() and not (dataset.splits == TEST).any():
        yield (
            "validation photos are learnt from, and the test split is drawn from train; to have them judge, name their "
            "folder or split `test`"
        )


def of_single_photos(data: TrainingSet) -> Iterator[str]:
    """Which classes no number speaks of, since each is learnt from one photo alone."""
    alone = untested(data.labels, len(data.classes), data.groups, data.splits)
    if not alone:
        return
    has, it_is = ("has a single photo", "it is") if len(alone) == 1 else ("have a single photo each", "they are")
    yield (
        f"{listed(repr(data.classes[i]) for i in alone)} {has}, copies aside: {it_is} learnt, but there is no other photo "
        f"to judge by, so no number here says how well {it_is} told; add photos"
    )


def of_neighbours(data: TrainingSet, choice: Choice) -> Iterator[str]:
    """Which classes the k nearest photos can hardly give: those of fewer photos than half the votes."""
    if choice.kind != "nearest":
        return
    of_class = labels.counts(data.labels[data.splits != TEST], len(data.classes))
    few = [name for name, n in zip(data.classes, of_class, strict=True) if 2 * n <= choice.strength]
    if few:
        has, it_is = ("has", "it is") if len(few) == 1 else ("have", "they are")
        yield (
            f"{listed(map(repr, few))} {has} too few photos to be most of the {choice.strength:.0f} nearest, so {it_is} "
            "hardly ever given; add photos, or take another --head"
        )


def of_a_strangers_network(network: Backbone) -> Iterator[str]:
    """What was made of an ONNX file that does not say everything about itself."""
    if not network.source:
        return
    wanted = network.preprocess
    yield (
        f"{network.name}: codes are the {network.n_codes:,} numbers of {network.output!r}, images have {wanted.size} pixels "
        f"and are normalised with mean {wanted.mean} and std {wanted.std}; other choices: --output, --size, --mean, --std"
    )
