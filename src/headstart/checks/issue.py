"""CheckInputs: what is known of photos that are looked through for issues, and an Issue: what is said of them.

It decides which photos count as one, and what an issue's score means: the same for every kind.
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

BORDER = 0.5  # the score from which on nothing is told


@dataclass(frozen=True)
class Issue:
    """Something found in the data.

    kind: of check.KINDS. paths: the photos, as images.display_name has them; none where classes are meant. labels: one for
    each path, empty where it has none; else the classes. score: how probable it is that this does no harm to what is learnt
    or to how it is judged, in [0, 1]: the same for all kinds; 0 is certain harm, and from BORDER on nothing is told.
    sentence: what is seen. suggestion: what to do. suggested_label: what the photos probably should be labelled, where that
    is known. is_certain: whether that is as good as certain.
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
        """As issues.json has it: `path` and `label` are the first ones."""
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
    """Photos that are one: positions, the test split's first, and how alike they are; 1.0 for the same bytes."""

    members: tuple[int, ...]
    similarity: float

    @property
    def is_exact(self) -> bool:
        """Whether they are the same byte for byte."""
        return self.similarity == 1.0


@dataclass(frozen=True, eq=False)
class CheckInputs:
    """What is known of n photos.

    labels: (n,) positions of classes, or (n, k) of 0 and 1. digests: each photo's sha256. splits: (n,) int8, positions in
    SPLITS, or -1. is_split_given: whether the data itself gives them. codes: (n, d) of the last layer. probabilities: (n, k)
    of fits that had not seen the photo. glances: None leaves out what is told of single pictures. pairs, groups: see
    copies.Copies. skipped: what could not be used.
    """

    names: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    digests: Sequence[bytes]
    splits: np.ndarray
    is_split_given: bool
    codes: np.ndarray
    probabilities: np.ndarray
    glances: ImageStats | None
    pairs: Sequence[Pair]
    groups: Sequence[bytes]
    skipped: Sequence[Skipped]

    def label(self, i: int) -> str:
        """A photo's label, or its labels."""
        return label_text(self.labels[i], self.classes)

    @cached_property
    def group_of(self) -> np.ndarray:
        """(n,) a number for each photo, the same for near duplicates."""
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(d, len(numbers)) for d in self.groups], np.int64)

    @cached_property
    def exact(self) -> list[Group]:
        """Photos that are the same byte for byte."""
        return [Group(self._test_first(members.tolist()), 1.0) for members in exact_groups(self.digests)]

    @cached_property
    def near(self) -> list[Group]:
        """Photos that are nearly the same, but not byte for byte; copies of each are among them."""
        alike: dict[int, float] = {}
        for first, second, similarity in self.pairs:
            if self.group_of[first] == self.group_of[second]:
                alike[int(self.group_of[first])] = max(alike.get(int(self.group_of[first]), 0.0), similarity)
        members: dict[int, list[int]] = {group: [] for group in alike}
        for i in np.flatnonzero(np.isin(self.group_of, list(alike))).tolist():
            members[int(self.group_of[i])].append(i)
        return [Group(self._test_first(found), min(alike[group], 0.9999)) for group, found in members.items()]

    def _test_first(self, members: list[int]) -> tuple[int, ...]:
        return tuple(sorted(members, key=lambda i: (self.splits[i] != TEST, i)))

    def leaks(self, group: Group) -> bool:
        """Whether a group stands in more than one of the splits that the data gives."""
        return self.is_split_given and len({int(self.splits[i]) for i in group.members} - {-1}) > 1

    def issue(
        self, kind: str, members: Sequence[int], score: float, sentence: str, suggestion: str, to: str | None = None
    ) -> Issue:
        """An issue of photos by their positions."""
        paths, labels = tuple(self.names[i] for i in members), tuple(self.label(i) for i in members)
        return Issue(kind, paths, labels, float(np.clip(score, 0, 1)), sentence, suggestion, to)
