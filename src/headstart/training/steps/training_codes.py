"""The codes of a training set's images, as any representation has them, computed or from the store.

It holds that the images are still the ones whose labels and splits are known, whenever they are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.heads.labelled_codes import LabelledCodes
from headstart.training.steps.training_set import TrainingSet


@dataclass(frozen=True)
class TrainingCodes:
    """Where codes come from: those of the first representation are in memory, others come through the store."""

    data: TrainingSet
    first: Representation
    workspace: Workspace

    def of(self, representation: Representation, rows: np.ndarray) -> np.ndarray:
        """The codes of some rows of the training set: (m, d), or (m, 1 + v, d) with views.

        Raises DataError where an image has changed since its first codes were computed, or cannot be read any more.
        """
        data = self.data
        is_first = replace(representation, n_layers=self.first.n_layers) == self.first
        if is_first and (len(self.first.backbones) == 1 or representation == self.first):
            columns = slice(sum(representation.widths))
            return data.codes[:, columns] if len(rows) == len(data.codes) else data.codes[rows, columns]
        images, digests = [data.images[i] for i in rows], [data.digests[i] for i in rows]
        return self.workspace.represent_again(images, digests, representation, during="the training ran").values

    def labelled(self, representation: Representation) -> LabelledCodes:
        """The codes that are learnt from, with their labels and groups of copies."""
        data = self.data
        codes = self.of(representation, data.learn)
        return LabelledCodes.represented(
            codes, data.labels[data.learn], len(data.classes), data.learn_groups, representation
        )
