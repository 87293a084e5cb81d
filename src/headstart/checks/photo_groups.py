"""Likeness: which of the photos that are to be learnt from are one, before they are dealt into splits; and their issues.

Takes photos and their codes; gives groups that share a split and a fold, and what check.py finds, before training or in it.
It decides from how many photos on comparing each with each takes too long.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headstart import datasets
from headstart.backbones import DEFAULT
from headstart.check import KINDS, find_issues
from headstart.codes import Codes, Progress, default_cache_dir
from headstart.copies import Chain, find_copies
from headstart.datasets import Dataset, Skipped
from headstart.duplicates import Pair
from headstart.engine import Hardware, available_cores
from headstart.errors import DataError, HeadstartError
from headstart.evidence import Evidence, Issue
from headstart.glance import Glances, glance_at
from headstart.images import display_name
from headstart.label_errors import out_of_fold
from headstart.labels import counts
from headstart.looks import Look, look_at
from headstart.progress import underway
from headstart.readings import counted
from headstart.splits import TRAIN
from headstart.store import Store
from headstart.tables import ImageRef
from headstart.wording import listed
from headstart.zoo import Wish, find_backbone

MOST_COMPARED = 150_000  # photos: 60,000 take 10 s, and it goes with their square


@dataclass(frozen=True)
class Likeness:
    """Photos compared with each other. groups: of the codes' rows, the same for near duplicates. notes: for the user."""

    dataset: Dataset
    codes: Codes
    glances: Glances
    pairs: Sequence[Pair]
    groups: list[bytes]
    notes: tuple[str, ...]

    def evidence(self, *, seed: int = 0, threads: int | None = None, progress: Progress = lambda *_: None) -> Evidence:
        """What issues are found by. seed: how photos are dealt into the folds that judge each other."""
        dataset, codes = self.dataset, self.codes
        labels, last = dataset.labels[codes.index], codes.values[:, : codes.widths[0]]
        dealt = [sha256(b"%d " % seed + group).digest() for group in self.groups] if seed else self.groups
        splits, is_split_given = dataset.splits[codes.index], bool((dataset.splits >= 0).any())
        if is_split_given:  # what the data leaves open is learnt from, but for a test split that is drawn by groups
            splits = np.where(splits < 0, np.int8(TRAIN), splits)
        failed = [Skipped(display_name(dataset.images[i]), failure.reason) for i, failure in codes.failures.items()]
        return Evidence(
            names=[display_name(dataset.images[i]) for i in codes.index],
            labels=labels,
            classes=dataset.classes,
            digests=codes.digests,
            splits=splits,
            is_split_given=is_split_given,
            codes=last,
            probabilities=out_of_fold(last, labels, len(dataset.classes), dealt, threads=threads, progress=progress),
            glances=self.glances,
            pairs=self.pairs,
            groups=self.groups,
            skipped=[*dataset.skipped, *failed],
        )

    def issues(
        self, notes: list[str], *, threads: int | None = None, progress: Progress = lambda *_: None
    ) -> list[dict[str, Any]]:
        """The issues found in the photos, worst first, as issues.json has them; leaks are told in notes as well."""
        evidence = self.evidence(threads=threads, progress=progress)
        issues = find_issues(evidence)
        leaks = [issue for issue in issues if issue.kind == "leak"]
        if leaks:
            notes.append(
                f"{len(leaks)} {'photo stands' if len(leaks) == 1 else 'photos stand'}, the same or nearly, in more "
                "than one of the splits that the data gives: the result may be too good; the first: "
                f"{listed(leaks[0].paths)}. All are listed in issues.json and in the report"
            )
        return [issue.to_json() for issue in issues]


def compare(
    dataset: Dataset,
    codes: Codes,
    store: Store | None,
    *,
    hardware: Hardware = Hardware(),
    progress: Progress = lambda *_: None,
) -> Likeness:
    """Look at each photo at a glance, and find which of them are one."""
    images = [dataset.images[i] for i in codes.index]
    threads = hardware.threads or available_cores()
    glances = glance_at(images, codes.digests, store, threads=threads, progress=progress)
    if len(images) > MOST_COMPARED:
        note = f"{len(images):,} photos are too many to compare each with each; near duplicates are not looked for"
        return Likeness(dataset, codes, glances, [], codes.digests, (note,))
    last = np.ascontiguousarray(codes.values[:, : codes.widths[0]])
    with underway(progress, "compare"):
        copies = find_copies(last, glances, codes.digests, threads=threads)
    unseen = [image for image, picture in zip(images, glances.pictures, strict=True) if picture is None]
    notes = (*_of_chains(copies.chains), *_of_unseen(unseen))
    return Likeness(dataset, codes, glances, copies.pairs, copies.groups, notes)


def _of_chains(chains: Sequence[Chain]) -> Iterator[str]:
    """What a cut chain means for the result."""
    if chains:
        n_photos, n_groups = sum(chain.n_photos for chain in chains), sum(chain.n_groups for chain in chains)
        yield (
            f"{n_photos:,} photos form {'a chain' if len(chains) == 1 else f'{len(chains):,} chains'}: each looks like the "
            "next, but the first does not look like the last, as in the frames of a film. They count as "
            f"{n_groups:,} groups, and neighbouring groups may stand on both sides of the test, so the result may be too "
            "good. If they are one film, put all of it into one split (a column `split` in a table)"
        )


def _of_unseen(images: Sequence[ImageRef]) -> Iterator[str]:
    """What it means that photos were not there any more to be compared."""
    if images:
        yield (
            f"{counted(len(images), 'photo')} changed or vanished before they were compared with the others, so near "
            f"duplicates of them are not known; the first: {display_name(images[0])}"
        )


@dataclass(frozen=True, eq=False)
class Checked:
    """What `check_photos` gives. n_of_class: how many photos each class has. notes: what the user should know."""

    issues: tuple[Issue, ...]
    n_images: int
    classes: tuple[str, ...]
    n_of_class: tuple[int, ...]
    evidence: Evidence = field(repr=False)
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
        network = find_backbone(Wish(backbone), cache_dir)
    with Store(cache_dir) as store:
        codes = look_at(dataset.images, Look((network,)), store, hardware=hardware, progress=progress)
        if not len(codes.index):
            reason = next((failure.reason for failure in codes.failures.values()), "there is none")
            n = len(dataset.images)
            raise DataError(f"none of the {n} files of {photos} can be used as an image; the first: {reason}")
        alike = compare(dataset, codes, store, hardware=hardware, progress=progress)
    with underway(progress, "issues"):
        evidence = alike.evidence(seed=seed, threads=hardware.threads or available_cores(), progress=progress)
        issues = find_issues(evidence)
    sizes = counts(evidence.labels, len(dataset.classes)).tolist()
    return Checked(issues, len(codes.index), dataset.classes, tuple(sizes), evidence, (*dataset.notes, *alike.notes))
