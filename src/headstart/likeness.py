"""Likeness: which of the photos that are to be learnt from are one, before they are dealt into splits; and their issues.

Takes photos and their codes; gives groups that share a split and a fold, and what check.py finds. It decides from how many
photos on comparing all with all takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.check import find_issues
from headstart.codes import Codes, Progress
from headstart.datasets import Dataset, Skipped
from headstart.duplicates import Pair, group_digests, near_duplicates
from headstart.engine import Hardware, available_cores
from headstart.evidence import Evidence
from headstart.glance import Glances, glance_at
from headstart.images import display_name
from headstart.label_errors import out_of_fold
from headstart.store import Store

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

    def issues(
        self, notes: list[str], *, threads: int | None = None, progress: Progress = lambda *_: None
    ) -> list[dict[str, Any]]:
        """The issues found in the photos, worst first, as issues.json has them; leaks are told in notes as well."""
        dataset, codes = self.dataset, self.codes
        if len(codes.index) > MOST_COMPARED:
            return []
        labels, last = dataset.labels[codes.index], codes.values[:, : codes.widths[0]]
        evidence = Evidence(
            names=[display_name(dataset.images[i]) for i in codes.index],
            labels=labels,
            classes=dataset.classes,
            digests=codes.digests,
            splits=dataset.splits[codes.index],
            is_split_given=bool((dataset.splits >= 0).any()),
            codes=last,
            probabilities=out_of_fold(last, labels, len(dataset.classes), self.groups, threads=threads, progress=progress),
            glances=self.glances,
            pairs=self.pairs,
            skipped=[
                *dataset.skipped,
                *(Skipped(display_name(dataset.images[i]), f.reason) for i, f in codes.failures.items()),
            ],
        )
        issues = find_issues(evidence)
        leaks = [issue for issue in issues if issue.kind == "leak"]
        if leaks:
            notes.append(
                f"{len(leaks)} {'photo stands' if len(leaks) == 1 else 'photos stand'}, the same or nearly, in more "
                "than one of the splits that the data gives: the result may be too good; the first: "
                f"{' and '.join(leaks[0].paths)}. All are listed in issues.json and in the report"
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
        note = (
            f"{len(images):,} photos are too many to compare each with each; near duplicates and issues are not looked for"
        )
        return Likeness(dataset, codes, glances, [], list(codes.digests), (note,))
    pairs = near_duplicates(np.ascontiguousarray(codes.values[:, : codes.widths[0]]), glances, codes.digests)
    groups = group_digests(codes.digests, pairs)
    return Likeness(dataset, codes, glances, pairs, groups, ())
