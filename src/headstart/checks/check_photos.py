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
from headstart.codes.representation import Representation, represent
from headstart.codes.store import Store
from headstart.data import datasets
from headstart.data.labels import counts
from headstart.engines.hardware import Hardware, available_cores
from headstart.errors import DataError, HeadstartError
from headstart.progress import Progress, underway


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
    with underway(progress, "list"):
        dataset = datasets.load_dataset(photos, is_learnt=False)
    with underway(progress, "backbone"):
        network = find_backbone(BackboneSpec(backbone), cache_dir)
    with Store(cache_dir) as store:
        codes = represent(dataset.images, Representation((network,)), store, hardware=hardware, progress=progress)
        if not len(codes.index):
            reason = next((failure.reason for failure in codes.failures.values()), "there is none")
            n = len(dataset.images)
            raise DataError(f"none of the {n} files of {photos} can be used as an image; the first: {reason}")
        photo_groups = group_photos(dataset, codes, store, hardware=hardware, progress=progress)
    with underway(progress, "issues"):
        inputs = photo_groups.check_inputs(seed=seed, threads=hardware.threads or available_cores(), progress=progress)
        issues = find_issues(inputs)
    sizes = counts(inputs.labels, len(dataset.classes)).tolist()
    return Checked(issues, len(codes.index), dataset.classes, tuple(sizes), inputs, (*dataset.notes, *photo_groups.notes))
