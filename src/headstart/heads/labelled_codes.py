"""Labelled codes: codes of images with their labels and groups of copies, all that a head is learnt from, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class LabelledCodes:
    """Codes of n images, and their labels.

    codes: (n, d) of any float type, or (n, v, d) with other views of each image beside the image itself, which comes first.
    labels: (n,) positions of classes, or (n, k) of 0 and 1. groups: a sha256 an image, the same for copies of a photo
    (checks.copies): they share a fold and are judged as one photo. widths: how many of the d codes each layer of the
    backbone has, the last layer first; () for one layer.
    """

    codes: np.ndarray
    labels: np.ndarray
    n_classes: int
    groups: Sequence[bytes]
    widths: tuple[int, ...] = ()

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    @property
    def width(self) -> int:
        """The number of codes that the last layer has."""
        return self.widths[0] if self.widths else int(self.codes.shape[-1])

    def of(self, rows: np.ndarray) -> LabelledCodes:
        """Those of some of the images; rows: (m,) positions."""
        groups = [self.groups[i] for i in rows.tolist()]
        return replace(self, codes=self.codes[rows], labels=self.labels[rows], groups=groups)
