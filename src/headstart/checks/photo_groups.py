"""Groups near duplicates before photos are dealt into splits, so that copies share a split; and checks them for issues.

Takes a data set and its codes; gives the groups, and the issues of kinds.py, for `check` and for training. It decides from
how many photos on comparing each with each takes too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from headstart.checks.copies import Chain, Copies, find_copies
from headstart.checks.duplicates import Pair
from headstart.checks.issue import CheckInputs
from headstart.checks.kinds import find_issues
from headstart.checks.label_errors import out_of_fold
from headstart.codes.compute import Codes
from headstart.codes.image_stats import ImageStats, compute_image_stats
from headstart.codes.results import Results
from headstart.codes.workspace import Workspace
from headstart.data.datasets import Dataset, Skipped
from headstart.data.images import display_name
from headstart.data.splits import TRAIN
from headstart.data.tables import ImageRef
from headstart.progress import Progress, underway
from headstart.record import IssueRecord
from headstart.wording import counted, listed

DIGEST_BYTES = 32  # of a sha256
MAX_COMPARED = 150_000  # photos: 60,000 take 10 s, and it goes with their square


@dataclass(frozen=True)
class PhotoGroups:
    """The groups of near duplicates of a data set.

    groups: for each row of the codes, the same for copies of a photo; pairs: see copies.Copies. notes: for the user.
    results: of earlier runs.
    """

    dataset: Dataset
    codes: Codes
    image_stats: ImageStats
    pairs: Sequence[Pair]
    groups: list[bytes]
    notes: tuple[str, ...]
    results: Results

    def check_inputs(
        self, *, seed: int = 0, threads: int | None = None, progress: Progress = lambda *_: None
    ) -> CheckInputs:
        """Gather what the checks read. seed: how photos are dealt into the folds of the out-of-fold probabilities."""
        dataset, codes = self.dataset, self.codes
        labels, last = dataset.labels[codes.index], codes.values[:, : codes.widths[0]]
        dealt = [sha256(b"%d " % seed + group).digest() for group in self.groups] if seed else self.groups
        splits, is_split_given = dataset.splits[codes.index], bool((dataset.splits >= 0).any())
        if is_split_given:  # what the data leaves open is learnt from, but for a test split that is drawn by groups
            splits = np.where(splits < 0, np.int8(TRAIN), splits)

        def probabilities() -> dict[str, np.ndarray]:
            return {"p": out_of_fold(last, labels, len(dataset.classes), dealt, threads=threads, progress=progress)}

        failures = [Skipped(display_name(dataset.images[i]), failure.reason) for i, failure in codes.failures.items()]
        return CheckInputs(
            names=[display_name(dataset.images[i]) for i in codes.index],
            labels=labels,
            classes=dataset.classes,
            digests=codes.digests,
            splits=splits,
            is_split_given=is_split_given,
            codes=last,
            probabilities=self.results.arrays("labels", [last, labels, len(dataset.classes), dealt], probabilities)["p"],
            image_stats=self.image_stats,
            pairs=self.pairs,
            groups=self.groups,
            skipped=[*dataset.skipped, *failures],
        )

    def issues(
        self, notes: list[str], *, threads: int | None = None, progress: Progress = lambda *_: None
    ) -> list[IssueRecord]:
        """Find the issues of the photos, worst first, as issues.json has them; leaks are added to notes as well."""
        issues = find_issues(self.check_inputs(threads=threads, progress=progress))
        leaks = [issue for issue in issues if issue.kind == "leak"]
        if leaks:
            notes.append(
                f"{counted(len(leaks), 'photo')} {'stands' if len(leaks) == 1 else 'stand'}, the same or nearly, in more "
                "than one of the splits that the data gives: the result may be too good; the first: "
                f"{listed(leaks[0].paths)}. All are listed in issues.json and in the report"
            )
        return [issue.to_json() for issue in issues]


def group_photos(dataset: Dataset, codes: Codes, workspace: Workspace) -> PhotoGroups:
    """Compute the image statistics of a data set, and group its near duplicates."""
    images = [dataset.images[i] for i in codes.index]
    threads, progress = workspace.threads, workspace.progress
    image_stats = compute_image_stats(images, codes.digests, workspace.store, threads=threads, progress=progress)
    if len(images) > MAX_COMPARED:
        note = f"{len(images):,} photos are too many to compare each with each; near duplicates are not looked for"
        return PhotoGroups(dataset, codes, image_stats, [], codes.digests, (note,), workspace.results)
    last = np.ascontiguousarray(codes.values[:, : codes.widths[0]])
    with underway(progress, "compare"):
        copies = _known_copies(last, image_stats, codes.digests, workspace)
    missing = [image for image, picture in zip(images, image_stats.pictures, strict=True) if picture is None]
    notes = (*_chain_notes(copies.chains), *_missing_notes(missing))
    return PhotoGroups(dataset, codes, image_stats, copies.pairs, copies.groups, notes, workspace.results)


def _known_copies(last: np.ndarray, image_stats: ImageStats, digests: Sequence[bytes], workspace: Workspace) -> Copies:
    """Find the copies, or read them from the cache where the same photos were compared before."""

    def compute() -> dict[str, np.ndarray]:
        copies = find_copies(last, image_stats, digests, threads=workspace.threads)
        return {
            "pairs": np.array([pair[:2] for pair in copies.pairs], np.int64).reshape(-1, 2),
            "similarity": np.array([pair.similarity for pair in copies.pairs], np.float64),
            "groups": np.frombuffer(b"".join(copies.groups), np.uint8).reshape(-1, DIGEST_BYTES),
            "chains": np.array([(chain.n_photos, chain.n_groups) for chain in copies.chains], np.int64).reshape(-1, 2),
        }

    pictures = [picture or b"" for picture in image_stats.pictures]
    found = workspace.results.arrays("copies", [last, list(digests), *image_stats.numbers(), pictures], compute)
    return Copies(
        [Pair(a, b, s) for (a, b), s in zip(found["pairs"].tolist(), found["similarity"].tolist(), strict=True)],
        [group.tobytes() for group in found["groups"]],
        tuple(Chain(*chain) for chain in found["chains"].tolist()),
    )


def _chain_notes(chains: Sequence[Chain]) -> Iterator[str]:
    """Say what a chain that was cut means for the result."""
    if chains:
        n_photos, n_groups = sum(chain.n_photos for chain in chains), sum(chain.n_groups for chain in chains)
        yield (
            f"{n_photos:,} photos form {'a chain' if len(chains) == 1 else f'{len(chains):,} chains'}: each looks like the "
            "next, but the first does not look like the last, as in the frames of a film. They count as "
            f"{n_groups:,} groups, and neighbouring groups may stand on both sides of the test, so the result may be too "
            "good. If they are one film, put all of it into one split (a column `split` in a table)"
        )


def _missing_notes(images: Sequence[ImageRef]) -> Iterator[str]:
    """Say that photos were gone before they could be compared."""
    if images:
        yield (
            f"{counted(len(images), 'photo')} changed or vanished before they were compared with the others, so near "
            f"duplicates of them are not known; the first: {display_name(images[0])}"
        )
