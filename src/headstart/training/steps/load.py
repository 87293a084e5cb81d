"""Loads the photos of a training and its backbones: labels with the fixes applied, and the networks to choose from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import AUTO, find_backbone, notes_on, others_like, wider_backbone
from headstart.checks.fixes import apply_fixes, read_fixes
from headstart.checks.photo_groups import PhotoGroups, group_photos
from headstart.codes.compute import Codes
from headstart.codes.representation import Representation, pixels_for
from headstart.codes.workspace import Workspace
from headstart.data.datasets import Dataset, load_dataset
from headstart.data.splits import TEST, VALIDATION
from headstart.data.tables import ImageRef
from headstart.progress import tell
from headstart.selection.effort import Effort
from headstart.training.options import TrainOptions
from headstart.wording import counted, duration

N_TIMED = 8, 48  # images
FROM_TOLD, LEAST_TOLD = 500, 5.0  # images, and expected seconds, from which on these are told beforehand


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with their labels. dataset: with the fixes applied; as_given: without. head: the kind to begin with."""

    where: str
    as_given: Dataset
    dataset: Dataset
    head: str


def load_photos(photos: str | os.PathLike[str], options: TrainOptions, workspace: Workspace) -> LabelledPhotos:
    """List the photos of a folder or a table, and apply the fixes; raises DataError for what cannot be learnt from."""
    with workspace.stage("list"):
        as_given = _judged_by_validation(load_dataset(photos))
        dataset = as_given if options.fixes is None else apply_fixes(as_given, read_fixes(options.fixes))
        return LabelledPhotos(str(photos), as_given, dataset, options.first_head(dataset))


@dataclass(frozen=True)
class Backbones:
    """The backbones, and how photos are represented by them.

    first: the representation that choosing begins with. effort: the one that it is of; is_cut: whether the clock made it
    less than was asked for. notes: what was made of a stranger's file, and what licences ask for. n_timed:
    images whose codes were computed to find out how long all would take.
    """

    first: Representation
    effort: Effort
    is_cut: bool
    notes: tuple[str, ...]
    n_timed: int


def _judged_by_validation(dataset: Dataset) -> Dataset:
    """Where the data has validation photos and no test split, they are the test split: Keras, fastai, timm and Ultralytics
    mean them so, and nobody expects them to be learnt from."""
    if (dataset.splits == TEST).any() or not (dataset.splits == VALIDATION).any():
        return dataset
    n = int((dataset.splits == VALIDATION).sum())
    note = (
        f"{counted(n, 'validation photo')} judge the result, as a test split would, and are not learnt from: the data has "
        "no test split of its own"
    )
    splits = np.where(dataset.splits == VALIDATION, np.int8(TEST), dataset.splits)
    return replace(dataset, splits=splits, notes=(*dataset.notes, note))


def find_candidates(photos: LabelledPhotos, options: TrainOptions, workspace: Workspace) -> Backbones:
    """Find the backbone that was asked for, and how much of the photos it looks at; raises BackboneError for none.

    With a budget, the most effort is taken whose codes are expected to be there in time.
    """
    with workspace.stage("backbone"):
        images, efforts = photos.dataset.images, options.efforts()
        network = find_backbone(options.backbone, options.cache_dir)
        pixels = pixels_for(images, network.preprocess.size)
        n_timed = 0
        for effort in efforts:
            first = representation_for(effort, network, pixels, options)
            if effort is efforts[-1]:
                break
            expected = expected_seconds(images, first, workspace)
            n_timed += expected.n_computed
            if expected.seconds <= (options.budget or 0):
                break
    is_cut = effort is not efforts[0]
    notes = (*_notes_on_onnx_file(network), *notes_on(first.backbones), *_notes_on_effort(first, effort, is_cut, options))
    return Backbones(first, effort, is_cut, notes, n_timed)


def representation_for(effort: Effort, network: Backbone, pixels: str, options: TrainOptions) -> Representation:
    """How photos are represented with an effort: the whole photo, where the backbone can take it."""
    wider = wider_backbone(network, options.backbone, options.cache_dir, pixels) or network
    is_all = options.backbone.name == AUTO or (effort.has_all_backbones and options.backbone.name == DEFAULT)
    return effort.representation((wider, *(others_like(wider, options.cache_dir) if is_all else ())), pixels)


class Expected(NamedTuple):
    """About how long codes will take, and how many images were computed to find out."""

    seconds: float
    n_computed: int


def expected_seconds(images: Sequence[ImageRef], representation: Representation, workspace: Workspace) -> Expected:
    """About how long the codes of all images would take, by a few of them, evenly spread; stored codes take no time.

    Two numbers of images are timed, for the difference has no share of what comes once, the network's compilation.
    """
    n = len(images)
    spread = np.linspace(0, n - 1, min(n, sum(N_TIMED))).astype(np.int64)
    few = spread[:: max(1, len(spread) // N_TIMED[0])]
    seconds, n_computed = [], 0
    for rows in (few, np.setdiff1d(spread, few)):
        start = time.monotonic()
        n_computed += workspace.represent([images[i] for i in rows.tolist()], representation, with_stats=True).n_computed
        seconds.append((time.monotonic() - start, len(rows)))
    (once, n_few), (more, n_more) = seconds
    return Expected(max(0.0, (more - once) / max(1, n_more - n_few)) * n, n_computed)


def compute_first_codes(photos: LabelledPhotos, backbones: Backbones, workspace: Workspace) -> Codes:
    """Compute the codes of all photos that can be read, as the first representation has them, and their statistics.

    They come in the order of the photos' content, so that nothing that follows depends on their names. Of many photos, it
    tells beforehand how long that will take.
    """
    images = photos.dataset.images
    with workspace.stage("codes"):
        n_timed = backbones.n_timed
        if len(images) >= FROM_TOLD:
            expected = expected_seconds(images, backbones.first, workspace)
            n_timed += expected.n_computed
            if expected.seconds >= LEAST_TOLD:
                time_text = duration(expected.seconds)
                tell(
                    workspace.progress,
                    f"effort {backbones.effort.name}: the codes of {len(images):,} photos take about {time_text}",
                )
        codes = workspace.represent(images, backbones.first, with_stats=True)
        return replace(codes.by_content(), n_computed=codes.n_computed + n_timed)


def find_copies(photos: LabelledPhotos, codes: Codes, workspace: Workspace) -> PhotoGroups:
    """Find copies and near duplicates, which share a split and a fold, and compute the statistics of all photos."""
    with workspace.stage("glance"):
        return group_photos(photos.dataset, codes, workspace)


def _notes_on_effort(first: Representation, effort: Effort, is_cut: bool, options: TrainOptions) -> Iterator[str]:
    """What the clock cut, and what more effort could not do."""
    if is_cut:
        yield (
            f"the effort is {effort.name}, not {options.effort}: the codes of more would not be there within the budget of "
            f"{options.budget:g} s. On another machine, or a busier one, the same command may give another classifier"
        )
    if options.effort == effort.name and effort.has_all_backbones and len(first.backbones) == 1:
        yield (
            f"effort {effort.name} averages the built-in backbones that are installed, and here is one; for the others: "
            "pip install 'headstart[backbones]'"
            if options.backbone.name == DEFAULT
            else f"effort {effort.name} adds no other backbone to {options.backbone.name}, which was asked for by name"
        )


def _notes_on_onnx_file(network: Backbone) -> Iterator[str]:
    """What was made of an ONNX file that does not say everything about itself."""
    if not network.source:
        return
    wanted = network.preprocess
    yield (
        f"{network.name}: codes are the {network.n_codes:,} numbers of {network.output!r}, images have {wanted.size} pixels "
        f"and are normalised with mean {wanted.mean} and std {wanted.std}; other choices: --output, --size, --mean, --std"
    )
