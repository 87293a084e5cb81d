"""More photos: what they would bring to a run, by a learning curve that ends at the run's own result.

Takes what was chosen, and codes of what was learnt from and tested with; gives the curve as run.json has it. It decides what
judges the curve: what judged the result, the test split or, without one, the folds of the cross-validation.
"""

from __future__ import annotations

import numpy as np

from headstart.data.labels import are_many
from headstart.data.splits import TEST
from headstart.heads.head import Head
from headstart.heads.kinds import HEADS
from headstart.numerics.losses import counted_weights
from headstart.progress import Progress
from headstart.record import LearningCurveRecord
from headstart.selection.cross_validation import Choice
from headstart.selection.learning_curve import QUICK, THOROUGH, Fit, Turn, learning_curve, sentence
from headstart.selection.rungs import Learned
from headstart.training.learnable import TrainingSet

BY_SQUARE_ROOT = ("softmax", "sigmoid")  # heads whose best strength grows as fast as 1 / sqrt(n) (select.begin_at)
SLOW = ("hidden",)  # learning it again takes minutes


def curve_of_run(
    data: TrainingSet,
    learned: Learned,
    learnt: np.ndarray,
    tested: np.ndarray,
    *,
    is_thorough: bool = False,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> LearningCurveRecord | None:
    """Draw the curve, as run.json has it.

    learnt: (n, d), or (n, v, d) with views, codes of the photos that were learnt from; tested: (m, d) of the test split.
    is_thorough: more points, each drawn more often. None for several labels a photo, and for SLOW heads unless thorough.
    """
    choice = learned.choice
    if are_many(data.labels) or (choice.kind in SLOW and not is_thorough):
        return None
    learn, test = np.flatnonzero(data.splits != TEST), np.flatnonzero(data.splits == TEST)
    groups = [data.groups[i] for i in learn]
    if len(test):
        of_test = [data.groups[i] for i in test]
        turns = [Turn(np.arange(len(learn)), tested, data.labels[test], of_test, choice.head.logits(tested))]
    else:
        firsts = learnt[:, 0] if learnt.ndim == 3 else learnt
        turns = [
            _turn(choice, choice.fold == i, firsts, data.labels[learn], groups) for i in np.unique(choice.fold).tolist()
        ]
    curve = learning_curve(
        learnt,
        data.labels[learn],
        [data.digests[i] for i in learn],
        turns,
        fit=_as_chosen(learned, len(data.classes), len(learn)),
        seed=seed,
        effort=THOROUGH if is_thorough else QUICK,
        temperature=choice.head.temperature,
        progress=progress,
    )
    split = "test" if len(test) else "cross-validation"
    return {**curve.to_json(), "split": split, "sentence": sentence(curve)}


def _turn(choice: Choice, is_in: np.ndarray, codes: np.ndarray, labels: np.ndarray, groups: list[bytes]) -> Turn:
    """A fold of the cross-validation, and what was learnt from meanwhile; is_in: which of the held-out images are its."""
    held_out = choice.held_out[is_in]
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    return Turn(others, codes[held_out], labels[held_out], [groups[i] for i in held_out], choice.logits[is_in])


def _as_chosen(learned: Learned, n_classes: int, n: int) -> Fit:
    """What the curve learns with: the head that was chosen, whose strength was the best for n images."""
    choice, widths = learned.choice, learned.look.widths
    kind = HEADS[choice.kind]

    def fit(codes: np.ndarray, of_image: np.ndarray) -> Head:
        n_views = codes.shape[1] if codes.ndim == 3 else 1
        weights = counted_weights(of_image, is_balanced=choice.is_balanced)
        fitter = kind.fitter(codes.reshape(-1, codes.shape[-1]), np.repeat(of_image, n_views), n_classes, widths)
        strength = choice.strength * np.sqrt(n / len(of_image)) if choice.kind in BY_SQUARE_ROOT else choice.strength
        return fitter.head(fitter.fit(strength, weights=np.repeat(weights, n_views)))

    return fit
