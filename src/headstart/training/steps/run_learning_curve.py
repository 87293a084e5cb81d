"""More photos: what they would bring to a run, by a learning curve that ends at the run's own result.

Takes what was chosen, and codes of what was learnt from and tested with; gives the curve as run.json has it. It decides what
judges the curve: what judged the result, the test split or, without one, the folds of the cross-validation.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from headstart.data.labels import are_many
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS, make_fitter
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.losses import counted_weights
from headstart.record import LearningCurveRecord
from headstart.selection.cross_validation import Choice
from headstart.selection.learning_curve import QUICK, THOROUGH, Fit, HeldOutFold, learning_curve, sentence
from headstart.selection.rungs import Selection
from headstart.training.options import TrainOptions
from headstart.training.steps.trust import Trained


def run_learning_curve(trained: Trained, options: TrainOptions) -> LearningCurveRecord | None:
    """Draw the curve of what was chosen, as run.json has it.

    None for several labels a photo, for a fine-tuned backbone, which has seen all photos, and for slow heads, unless a
    thorough curve was asked for.
    """
    data, choice = trained.data, trained.choice
    if are_many(data.labels) or trained.chosen.is_tuned or (HEADS[choice.kind].is_slow and not options.learning_curve):
        return None
    representation = trained.selection.representation
    codes = trained.codes.of(representation, data.learn) if representation.views else trained.train_codes.codes
    effort = THOROUGH if options.learning_curve else QUICK
    labelled = LabelledCodes(codes, data.labels[data.learn], len(data.classes), [data.digests[i] for i in data.learn])
    folds = _held_out_folds(trained)

    def compute() -> LearningCurveRecord:
        curve = learning_curve(
            labelled,
            folds,
            fit=fit_as_chosen(trained.selection, len(data.classes), len(data.learn)),
            seed=options.seed,
            effort=effort,
            temperature=choice.head.temperature,
            progress=trained.workspace.progress,
        )
        return {**curve.to_json(), "split": "test" if len(data.test) else "cross-validation", "sentence": sentence(curve)}

    of_folds = [part for f in folds for part in (f.train_rows, f.codes, f.labels, list(f.groups), f.logits)]
    of_choice = [choice.kind, choice.strength, choice.is_balanced, choice.members, choice.head.temperature]
    inputs = [*labelled.identity(), representation.widths, *of_folds, *of_choice, options.seed, effort]
    return cast(LearningCurveRecord, trained.workspace.results.record("learning curve", inputs, compute))


def _held_out_folds(trained: Trained) -> list[HeldOutFold]:
    """What judged the result: the test split, or without one each fold of the cross-validation."""
    data, choice, tested = trained.data, trained.choice, trained.test_codes
    if len(data.test):
        groups = [data.groups[i] for i in data.test]
        return [HeldOutFold(np.arange(len(data.learn)), tested, data.labels[data.test], groups, choice.head.logits(tested))]
    labelled = trained.train_codes
    return [
        _fold(choice, choice.fold == i, labelled.codes, labelled.labels, list(labelled.groups))
        for i in np.unique(choice.fold).tolist()
    ]


def _fold(choice: Choice, is_in: np.ndarray, codes: np.ndarray, labels: np.ndarray, groups: list[bytes]) -> HeldOutFold:
    """A fold of the cross-validation, and what was learnt from meanwhile; is_in: which of the held-out images are its."""
    held_out = choice.held_out[is_in]
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    return HeldOutFold(others, codes[held_out], labels[held_out], [groups[i] for i in held_out], choice.logits[is_in])


def fit_as_chosen(selection: Selection, n_classes: int, n: int) -> Fit:
    """What the curve learns with: the head that was chosen, whose strength was the best for n images."""
    choice, widths = selection.choice, selection.representation.widths
    kind = HEADS[choice.kind]

    def fit(codes: np.ndarray, of_image: np.ndarray) -> Head:
        n_views = codes.shape[1] if codes.ndim == 3 else 1
        weights = counted_weights(of_image, is_balanced=choice.is_balanced)
        rows, labels = codes.reshape(-1, codes.shape[-1]), np.repeat(of_image, n_views)
        fitter = make_fitter(choice.kind, rows, labels, n_classes, widths, choice.members)
        strength = choice.strength * np.sqrt(n / len(of_image)) if kind.is_weaker_for_more else choice.strength
        return fitter.head(fitter.fit(strength, weights=np.repeat(weights, n_views)))

    return fit
