"""Checks photos without training: duplicates, wrong labels, outliers and bad images, as a list of issues."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.backbones.builtin import DEFAULT
from headstart.backbones.find import BackboneSpec, find_backbone
from headstart.cache_folder import default_cache_dir
from headstart.checks.issue import CheckInputs, Issue
from headstart.checks.kinds import KINDS, find_issues
from headstart.checks.photo_groups import group_photos
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace, check_readable
from headstart.data import datasets
from headstart.data.labels import counts
from headstart.engines.hardware import Hardware
from headstart.errors import HeadstartError
from headstart.progress import Progress


@dataclass(frozen=True, eq=False)
class Checked:
    """The issues that `check_photos` finds, worst first. n_of_class: photos of each class. notes: for the user."""

    issues: tuple[Issue, ...]
    n_images: int
    classes: tuple[str, ...]
    n_of_class: tuple[int, ...]
    inputs: CheckInputs = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The issues as issues.json has them, with the numbers of images and of issues of each kind."""
        n_of_kind = Counter(issue.kind for issue in self.issues)
        return {
            "images": self.n_images,
            "skipped": len(self.inputs.skipped),
            "images_of_class": dict(zip(self.classes, self.n_of_class, strict=True)),
            "kinds": {kind: n_of_kind[kind] for kind in KINDS},
            "issues": [issue.to_json() for issue in self.issues],
        }


def check_photos(
    photos: str | os.PathLike[str],
    *,
    backbone: str = DEFAULT,
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str = "CPU",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress = lambda *_: None,
) -> Checked:
    """Check a folder or table of labelled photos for issues; nothing is changed.

    backbone, cache, device, threads, precision, progress: as in training.train. seed: how photos are dealt into the folds
    that judge each other. Raises HeadstartError for anything that the caller can mend.
    """
    if seed < 0:
        raise HeadstartError(f"the seed is {seed}; expected 0 or more")
    hardware = Hardware(device, threads, precision)
    cache_dir = Path(cache) if cache is not None else default_cache_dir()
    with Workspace(cache_dir, hardware, progress=progress) as workspace:
        with workspace.stage("list"):
            dataset = datasets.load_dataset(photos, is_learnt=False)
        with workspace.stage("backbone"):
            network = find_backbone(BackboneSpec(backbone), cache_dir)
        codes = workspace.represent(dataset.images, Representation((network,)), with_stats=True)
        check_readable(codes, len(dataset.images), str(photos))
        photo_groups = group_photos(dataset, codes, workspace)
        with workspace.stage("issues"):
            inputs = photo_groups.check_inputs(seed=seed, threads=workspace.threads, progress=progress)
            issues = find_issues(inputs)
    sizes = counts(inputs.labels, len(dataset.classes)).tolist()
    return Checked(issues, len(codes.index), dataset.classes, tuple(sizes), inputs, (*dataset.notes, *photo_groups.notes))
