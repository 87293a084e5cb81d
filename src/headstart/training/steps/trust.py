"""What a training has come to: the chosen head, the codes it was fitted on, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.heads.labelled_codes import LabelledCodes
from headstart.selection.cross_validation import Choice
from headstart.selection.rungs import Selection
from headstart.training.steps.choose import Chosen
from headstart.training.steps.training_codes import TrainingCodes
from headstart.training.steps.training_set import TrainingSet
from headstart.trust.fit import Trust, build_trust


@dataclass(frozen=True)
class Trained:
    """A head that was chosen and calibrated.

    train_codes: what it was learnt from, with groups of copies; test_codes: (m, d) of the test split; both in its
    representation, without views.
    """

    codes: TrainingCodes
    chosen: Chosen
    train_codes: LabelledCodes
    test_codes: np.ndarray
    trust: Trust

    @property
    def data(self) -> TrainingSet:
        """What was learnt from and is tested with."""
        return self.codes.data

    @property
    def workspace(self) -> Workspace:
        """Where it was trained."""
        return self.codes.workspace

    @property
    def choice(self) -> Choice:
        """The head, at the temperature of its calibration."""
        return self.trust.choice

    @property
    def selection(self) -> Selection:
        """The head with its representation and the rungs that led there."""
        return replace(self.chosen.selection, choice=self.trust.choice)

    @property
    def representation(self) -> Representation:
        """What new images are represented by: without the views that were learnt from as well."""
        return replace(self.chosen.selection.representation, views=())


def fit_trust(codes: TrainingCodes, chosen: Chosen) -> Trained:
    """Calibrate the chosen head, and fit what notices unfamiliar photos, on what the cross-validation held out."""
    data, workspace = codes.data, codes.workspace
    representation = replace(chosen.selection.representation, views=())
    with workspace.stage("gather"):
        train_codes, test_codes = codes.labelled(representation), codes.of(representation, data.test)
    with workspace.stage("trust"):
        trust = build_trust(
            train_codes, data.classes, chosen.selection.choice, results=workspace.results, threads=workspace.threads
        )
    return Trained(codes, chosen, train_codes, test_codes, trust)
