"""Chooses on held-out images: the ladder's rungs, and whether the fine-tuned backbone replaces the frozen one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headstart.backbones.find import AUTO
from headstart.data import labels
from headstart.errors import HeadstartError
from headstart.selection.cross_validation import Choice
from headstart.selection.ladder import Ladder
from headstart.selection.rungs import Candidate, Selection
from headstart.training.options import TrainOptions
from headstart.training.steps.load import Backbones
from headstart.training.steps.training_codes import TrainingCodes
from headstart.training.steps.training_set import TrainingSet
from headstart.wording import listed

if TYPE_CHECKING:
    from headstart.training.steps.finetuning import Verdict


@dataclass(frozen=True)
class Chosen:
    """What was chosen. selection: the head and its representation; verdict: what fine-tuning came to, if it ran."""

    selection: Selection
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_tuned(self) -> bool:
        """Whether the backbone is the fine-tuned one, which has seen all photos."""
        return self.verdict is not None and self.verdict.is_taken


def choose(codes: TrainingCodes, head: str, backbones: Backbones, options: TrainOptions) -> Chosen:
    """Climb the ladder, then fine-tune where that was asked for; head: the kind to begin with."""
    with codes.workspace.stage("choose"):
        selection = climb_ladder(codes, head, backbones, options)
    chosen = Chosen(selection, notes=tuple(_notes_on_neighbours(codes.data, selection.choice)))
    if not options.tuning.is_wanted:
        return chosen
    with codes.workspace.stage("fine-tune"):
        return _fine_tune(codes, chosen, options)


def climb_ladder(codes: TrainingCodes, head: str, backbones: Backbones, options: TrainOptions) -> Selection:
    """Choose the head, its regularisation, and views that were asked for, on held-out images of the training set."""
    data, workspace = codes.data, codes.workspace
    return Ladder(
        lambda representation, rows: codes.of(representation, data.learn[rows]),
        data.labels[data.learn],
        len(data.classes),
        data.learn_groups,
        views=options.views_to_try(),
        heads=None if options.head == AUTO and backbones.effort.tries_heads else [],
        digests=[data.digests[i] for i in data.learn],
        balance=options.balance,
        validation=data.validation,
        learns_from_validation=options.learn_from_validation,
        budget=options.budget or None,
        results=workspace.results,
        threads=workspace.threads,
        progress=workspace.progress,
    ).learn(Candidate(backbones.first, head))


def _fine_tune(codes: TrainingCodes, chosen: Chosen, options: TrainOptions) -> Chosen:
    """Fine-tune; where that comes to nothing the frozen classifier stays, with a note that says why."""
    from headstart.training.steps.finetuning import fine_tuned

    tuning, workspace = options.fine_tuning(), codes.workspace
    assert tuning is not None
    try:
        verdict = fine_tuned(
            codes.data,
            codes.of,
            chosen.selection,
            options=tuning,
            force=options.tuning.force,
            threads=workspace.threads,
            progress=workspace.progress,
        )
    except HeadstartError as error:
        note = f"fine-tuning came to nothing, the frozen classifier stays: {error}"
        return replace(chosen, notes=(*chosen.notes, note))
    return replace(chosen, selection=verdict.selection, verdict=verdict)


def _notes_on_neighbours(data: TrainingSet, choice: Choice) -> Iterator[str]:
    """Which classes the k nearest photos can hardly give: those of fewer photos than half the votes."""
    if choice.kind != "nearest":
        return
    of_class = labels.counts(data.labels[data.learn], len(data.classes))
    few = [name for name, n in zip(data.classes, of_class, strict=True) if 2 * n <= choice.strength]
    if few:
        has, it_is = ("has", "it is") if len(few) == 1 else ("have", "they are")
        yield (
            f"{listed(map(repr, few))} {has} too few photos to be most of the {choice.strength:.0f} nearest, so {it_is} "
            "hardly ever given; add photos, or take another --head"
        )
