"""Labelled codes: codes of images with their labels and groups of copies, all that a head is learnt from, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.codes.representation import Representation
from headstart.heads.logistic import Member


@dataclass(frozen=True)
class LabelledCodes:
    """Codes of n images, and their labels.

    codes: (n, d) of any float type, or (n, v, d) with other views of each image beside the image itself, which comes first.
    labels: (n,) positions of classes, or (n, k) of 0 and 1. groups: a sha256 an image, the same for copies of a photo
    (checks.copies): they share a fold and are judged as one photo. widths: how many of the d codes each layer of the
    backbone has, the last layer first; () for one layer. members: which of the codes each member of a mean of heads reads.
    validation: (n,) bool, the images that are held out for all choices, in place of folds; learns_from_validation: whether
    the last fit has them.
    """

    codes: np.ndarray
    labels: np.ndarray
    n_classes: int
    groups: Sequence[bytes]
    widths: tuple[int, ...] = ()
    members: tuple[Member, ...] = ()
    validation: np.ndarray | None = None
    learns_from_validation: bool = False

    @classmethod
    def represented(
        cls,
        codes: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        groups: Sequence[bytes],
        representation: Representation,
    ) -> LabelledCodes:
        """Those of a representation, with its widths and a member of the mean of heads for each of its depths."""
        members = tuple(Member(start, end) for start, end in representation.members)
        return cls(codes, labels, n_classes, groups, representation.widths, members)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def identity(self) -> list[Any]:
        """Everything that a result of these depends on, for codes.results."""
        where = [self.codes, self.labels, self.n_classes, list(self.groups), self.widths, self.members]
        return [*where, self.learns_from_validation, *([] if self.validation is None else [self.validation])]

    @property
    def width(self) -> int:
        """The number of codes that the last layer has."""
        return self.widths[0] if self.widths else int(self.codes.shape[-1])

    def of(self, rows: np.ndarray) -> LabelledCodes:
        """Those of some of the images; rows: (m,) positions."""
        groups = [self.groups[i] for i in rows.tolist()]
        validation = None if self.validation is None else self.validation[rows]
        return replace(self, codes=self.codes[rows], labels=self.labels[rows], groups=groups, validation=validation)
