"""Loads the photos of a training and its backbones: labels with the fixes applied, and the networks to choose from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.backbones.backbone import Backbone
from headstart.backbones.find import BackboneSpec, find_backbones, notes_on, wider_backbone
from headstart.checks.fixes import apply_fixes, read_fixes
from headstart.checks.photo_groups import PhotoGroups, group_photos
from headstart.codes.compute import Codes
from headstart.codes.representation import Representation, pixels_for
from headstart.codes.workspace import Workspace
from headstart.data.datasets import Dataset, load_dataset
from headstart.data.tables import ImageRef
from headstart.training.options import TrainOptions


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
        as_given = load_dataset(photos)
        dataset = as_given if options.fixes is None else apply_fixes(as_given, read_fixes(options.fixes))
        return LabelledPhotos(str(photos), as_given, dataset, options.first_head(dataset))


@dataclass(frozen=True)
class Backbones:
    """The backbones to choose from. first: how images are represented before anything is chosen; others: to compare with.

    notes: what was made of a stranger's file, and what licences ask for.
    """

    spec: BackboneSpec
    cache_dir: Path
    network: Backbone
    others: tuple[Backbone, ...]
    first: Representation
    notes: tuple[str, ...]

    def wider(self, backbone: Backbone, pixels: str) -> Backbone | None:
        """The same backbone looking at the whole photo, see find.wider_backbone."""
        return wider_backbone(backbone, self.spec, self.cache_dir, pixels)

    def pixels_for(self, images: Sequence[ImageRef]) -> str:
        """How many pixels a wider look should have, of photos as large as these."""
        return pixels_for(images, self.network.preprocess.size)


def find_candidates(options: TrainOptions, workspace: Workspace) -> Backbones:
    """Find the backbone that was asked for, and those to compare it with; raises BackboneError where there is none."""
    with workspace.stage("backbone"):
        network, others = find_backbones(options.backbone, options.cache_dir)
        first = Representation((network,), n_layers=len(network.widths) if options.budget > 0 else 1)
    notes = (*_notes_on_onnx_file(network), *notes_on((network, *others)))
    return Backbones(options.backbone, options.cache_dir, network, others, first, notes)


def compute_first_codes(photos: LabelledPhotos, backbones: Backbones, workspace: Workspace) -> Codes:
    """Compute the codes of all photos that can be read, as the first representation has them."""
    with workspace.stage("codes"):
        return workspace.represent(photos.dataset.images, backbones.first, with_stats=True)


def find_copies(photos: LabelledPhotos, codes: Codes, workspace: Workspace) -> PhotoGroups:
    """Find copies and near duplicates, which share a split and a fold, and compute the statistics of all photos."""
    with workspace.stage("glance"):
        return group_photos(photos.dataset, codes, workspace)


def _notes_on_onnx_file(network: Backbone) -> Iterator[str]:
    """What was made of an ONNX file that does not say everything about itself."""
    if not network.source:
        return
    wanted = network.preprocess
    yield (
        f"{network.name}: codes are the {network.n_codes:,} numbers of {network.output!r}, images have {wanted.size} pixels "
        f"and are normalised with mean {wanted.mean} and std {wanted.std}; other choices: --output, --size, --mean, --std"
    )
