"""The types of all checks: CheckInputs, everything that checks read of the photos, and Issue, what they find.

It decides which photos count as copies, and what an issue's score means: the same for every kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.checks.duplicates import Pair, exact_groups
from headstart.codes.image_stats import ImageStats
from headstart.data.datasets import Skipped
from headstart.data.labels import label_text
from headstart.data.splits import TEST
from headstart.record import IssueRecord

MAX_SCORE = 0.5  # of an issue: from here on nothing is reported


@dataclass(frozen=True)
class Issue:
    """Something found in the data.

    kind: a key of kinds.KINDS. paths: the photos, as images.display_name has them; none where classes are meant. labels: one
    for each path, empty where it has none; else the classes. score: how probable it is that this does no harm to training
    or evaluation, in [0, 1]: the same for all kinds; 0 is certain harm, and from MAX_SCORE on nothing is reported.
    sentence: what was found. suggestion: what to do. suggested_label: the probable label of the photos, or None.
    is_certain: whether the suggested label is as good as certain.
    """

    kind: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    score: float
    sentence: str
    suggestion: str
    suggested_label: str | None = None
    is_certain: bool = False

    def to_json(self) -> IssueRecord:
        """The issue as issues.json has it: `path` and `label` are the first ones."""
        return {
            "kind": self.kind,
            "path": self.paths[0] if self.paths else None,
            "paths": list(self.paths),
            "label": self.labels[0] if self.labels else None,
            "labels": list(self.labels),
            "suggested_label": self.suggested_label,
            "score": round(self.score, 4),
            "sentence": self.sentence,
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True)
class Group:
    """Copies of one photo: their positions, the test split's first, and their similarity; 1.0 for the same bytes."""

    members: tuple[int, ...]
    similarity: float

    @property
    def is_exact(self) -> bool:
        """Whether the copies are the same byte for byte."""
        return self.similarity == 1.0


@dataclass(frozen=True, eq=False)
class CheckInputs:
    """Everything that the checks read of n photos.

    labels: (n,) positions of classes, or (n, k) of 0 and 1. digests: each photo's sha256. splits: (n,) int8, positions in
    SPLITS, or -1. is_split_given: whether the data itself gives them. codes: (n, d) of the last layer. probabilities: (n, k)
    of fits that had not seen the photo. image_stats: None leaves out the checks of image quality. pairs, groups: see
    copies.Copies. skipped: files that could not be used.
    """

    names: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    digests: Sequence[bytes]
    splits: np.ndarray
    is_split_given: bool
    codes: np.ndarray
    probabilities: np.ndarray
    image_stats: ImageStats | None
    pairs: Sequence[Pair]
    groups: Sequence[bytes]
    skipped: Sequence[Skipped]

    def label(self, i: int) -> str:
        """Name a photo's label, or its labels."""
        return label_text(self.labels[i], self.classes)

    @cached_property
    def group_of(self) -> np.ndarray:
        """(n,) int64, a number for each photo, the same for near duplicates."""
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(d, len(numbers)) for d in self.groups], np.int64)

    @cached_property
    def exact(self) -> list[Group]:
        """The groups of photos that are the same byte for byte."""
        return [Group(self._test_first(members.tolist()), 1.0) for members in exact_groups(self.digests)]

    @cached_property
    def near(self) -> list[Group]:
        """The groups of near duplicates, with the exact copies of each."""
        highest: dict[int, float] = {}
        for first, second, similarity in self.pairs:
            if self.group_of[first] == self.group_of[second]:
                highest[int(self.group_of[first])] = max(highest.get(int(self.group_of[first]), 0.0), similarity)
        members: dict[int, list[int]] = {group: [] for group in highest}
        for i in np.flatnonzero(np.isin(self.group_of, list(highest))).tolist():
            members[int(self.group_of[i])].append(i)
        return [Group(self._test_first(rows), min(highest[group], 0.9999)) for group, rows in members.items()]

    def _test_first(self, members: list[int]) -> tuple[int, ...]:
        return tuple(sorted(members, key=lambda i: (self.splits[i] != TEST, i)))

    def leaks(self, group: Group) -> bool:
        """Whether the copies of a group are in more than one of the splits that the data gives."""
        return self.is_split_given and len({int(self.splits[i]) for i in group.members} - {-1}) > 1

    def issue(
        self, kind: str, members: Sequence[int], score: float, sentence: str, suggestion: str, to: str | None = None
    ) -> Issue:
        """Make an issue about photos by their positions; score is clipped to [0, 1]; to: the suggested label."""
        paths, labels = tuple(self.names[i] for i in members), tuple(self.label(i) for i in members)
        return Issue(kind, paths, labels, float(np.clip(score, 0, 1)), sentence, suggestion, to)
