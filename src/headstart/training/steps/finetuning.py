"""The judge: fine-tuning replaces the frozen classifier only where it is better on validation beyond chance.

Takes the frozen classifier's look and head; gives what fine-tuning came to, and whether it is taken. Both are compared on
the validation split, from which neither head has learnt: the frozen one is fitted once more, on train alone. Validation did
choose though, the rungs of the one and, from 200 images on, the epoch of the other; the test split judges what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from headstart.backbones.builtin import BACKBONES
from headstart.backbones.torch_modules import TIMM, TorchNetwork, torch_network
from headstart.codes.representation import Representation
from headstart.data.labels import are_many, counts
from headstart.data.splits import TRAIN, VALIDATION
from headstart.errors import HeadstartError
from headstart.evaluation.comparison import Comparison, compare_classifiers
from headstart.finetune.loop import FineTuned, dismiss_workers, finetune
from headstart.finetune.recipe import FineTuning
from headstart.finetune.task import Task
from headstart.heads.head import Head
from headstart.heads.labelled_codes import LabelledCodes
from headstart.numerics.losses import is_right
from headstart.progress import Progress
from headstart.record import EpochRecord, FineTuningRecord
from headstart.selection.cross_validation import Choice, choose_head
from headstart.selection.rungs import Selection
from headstart.training.steps.training_set import TrainingSet

MOST_LOGIT = 50.0


@dataclass(frozen=True)
class Verdict:
    """What fine-tuning came to. selection: the classifier to go on with, the tuned one if it is taken."""

    tuned: FineTuned
    comparison: Comparison
    is_taken: bool
    selection: Selection

    def to_json(self) -> FineTuningRecord:
        """For run.json."""
        return {
            "is_taken": self.is_taken,
            "unfrozen": self.tuned.unfrozen,
            "n_trained": self.tuned.n_trained,
            "epochs": self.tuned.epochs,
            "best_epoch": self.tuned.best_epoch,
            "blend": self.tuned.blend,
            "seconds": round(self.tuned.seconds, 1),
            "resumed_from": self.tuned.resumed_from,
            "history": [cast(EpochRecord, epoch._asdict()) for epoch in self.tuned.history],
            "comparison": self.comparison.to_json(),
            "notes": list(self.tuned.notes),
        }


def fine_tuned(
    data: TrainingSet,
    codes_of: Callable[[Representation, np.ndarray], np.ndarray],
    selection: Selection,
    *,
    options: FineTuning,
    force: bool = False,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Verdict:
    """Fine-tune the frozen classifier's backbone from a head on its codes, and compare the two on validation.

    codes_of: gives a look's codes of some of the data's images. force: take it even where it is not better. Raises
    HeadstartError where the backbone has no torch module, or where there is no validation split to judge on.
    """
    try:
        frozen, start, network = _begun(data, codes_of, selection, threads)
    except HeadstartError:
        dismiss_workers(device=options.device)  # under torchrun they wait for us
        raise
    task = Task(data.images, data.labels, data.splits, data.digests, network, start)
    tuned = finetune(task, options=options, progress=progress)
    judged = tuned.validation_index
    before = frozen.logits(_first_view(codes_of(selection.representation, judged)))
    after = np.clip(np.log(np.maximum(tuned.validation_probabilities, 1e-20)), -MOST_LOGIT, 0)
    if are_many(data.labels):
        after = after - np.log1p(-np.minimum(tuned.validation_probabilities, 1 - 1e-7))
    comparison = compare_classifiers(
        is_right(after, data.labels[judged]),
        is_right(before, data.labels[judged]),
        groups=[data.groups[i] for i in judged],
        name_a="fine-tuned",
        name_b="frozen",
    )
    is_taken = force or comparison.verdict == "better"
    if not is_taken:
        return Verdict(tuned, comparison, False, selection)
    place = np.full(len(data.splits), -1)
    place[np.flatnonzero(data.splits <= VALIDATION)] = np.arange(int((data.splits <= VALIDATION).sum()))
    turn = np.zeros(len(judged), np.int64)
    choice = Choice(tuned.head, "fine-tuned", 0.0, place[judged], turn, after.astype(np.float32), ())
    return Verdict(tuned, comparison, True, Selection(Representation((tuned.backbone,)), choice, selection.rungs))


def _begun(
    data: TrainingSet,
    codes_of: Callable[[Representation, np.ndarray], np.ndarray],
    selection: Selection,
    threads: int | None,
) -> tuple[Head, Head, TorchNetwork]:
    """The frozen classifier's head fitted on train alone, the head to start from, and the network."""
    backbone = selection.representation.backbones[0]
    if len(selection.representation.backbones) > 1 or not (backbone.name in BACKBONES or backbone.name.startswith(TIMM)):
        raise HeadstartError(
            f"fine-tuning needs one backbone that torch has, a Lite one or {TIMM}NAME; here is "
            f"{selection.representation.name}: name one with --backbone"
        )
    train = np.flatnonzero(data.splits == TRAIN)
    if not (data.splits == VALIDATION).any():
        raise HeadstartError(
            "fine-tuning is judged on a validation split, and no photo fell to it: add photos, or a val folder"
        )
    missing = np.flatnonzero(counts(data.labels[train], len(data.classes)) == 0)
    if len(missing):
        raise HeadstartError(
            f"fine-tuning learns from the train split alone, and no photo of {data.classes[missing[0]]!r} fell to it: add "
            "photos"
        )
    groups = [data.groups[i] for i in train]

    def fitted(look: Representation, kind: str) -> Head:
        labelled = LabelledCodes.represented(codes_of(look, train), data.labels[train], len(data.classes), groups, look)
        return choose_head(labelled, kind=kind, threads=threads).head

    start = fitted(Representation((backbone,)), "sigmoid" if are_many(data.labels) else "softmax")
    network = replace(torch_network(backbone.name), preprocess=backbone.preprocess)
    return fitted(selection.representation, selection.choice.kind), start, network


def _first_view(codes: np.ndarray) -> np.ndarray:
    return codes[:, 0] if codes.ndim == 3 else codes
