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
    """What `check_photos` gives. n_of_class: how many photos each class has. notes: what the user should know."""

    issues: tuple[Issue, ...]
    n_images: int
    classes: tuple[str, ...]
    n_of_class: tuple[int, ...]
    evidence: CheckInputs = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As issues.json has it, with what was looked at."""
        found = Counter(issue.kind for issue in self.issues)
        return {
            "images": self.n_images,
            "skipped": len(self.evidence.skipped),
            "images_of_class": dict(zip(self.classes, self.n_of_class, strict=True)),
            "kinds": {kind: found[kind] for kind in KINDS},
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
    """Look for issues in a folder or table of labelled photos; nothing is changed.

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
        alike = group_photos(dataset, codes, store, hardware=hardware, progress=progress)
    with underway(progress, "issues"):
        evidence = alike.evidence(seed=seed, threads=hardware.threads or available_cores(), progress=progress)
        issues = find_issues(evidence)
    sizes = counts(evidence.labels, len(dataset.classes)).tolist()
    return Checked(issues, len(codes.index), dataset.classes, tuple(sizes), evidence, (*dataset.notes, *alike.notes))
