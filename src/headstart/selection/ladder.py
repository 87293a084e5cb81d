"""The ladder: tries views and other heads beside the first candidate, one after another, until `--budget` cuts it off.

Takes a function that gives codes of images under a representation; gives a Selection: the representation, its head, and a
rung for each candidate. Every candidate is judged on held-out images, and taken only if it is better than choosing among so
many would make it by chance. Of many images a sample is taken for it, and only what was chosen is fitted on them all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.codes.representation import MIRRORED, Representation
from headstart.codes.results import Results
from headstart.errors import BackboneError
from headstart.heads.labelled_codes import LabelledCodes
from headstart.progress import Progress, underway
from headstart.selection.choice_arrays import choice_arrays, choice_of_arrays
from headstart.selection.cross_validation import choose_head
from headstart.selection.rungs import Attempt, Candidate, Rung, Selection, compare_attempts, rung_of
from headstart.selection.sample import FEW_PER_CLASS, sample
from headstart.wording import percent

MOST_COMPARED = 5_000  # images that candidates are compared on
FROM_HIDDEN = 20_000  # images from which on a hidden layer is tried; below, it gained less than it cost (docs/LOG.md)

log = logging.getLogger("headstart")

CodesOf = Callable[[Representation, np.ndarray], np.ndarray]
"""Gives (m, d) or, with views, (m, v, d) codes of some of the images."""


@dataclass
class Ladder:
    """The images to choose by, and what may be tried.

    codes_of: see CodesOf. labels, n_classes, groups: see LabelledCodes. views: to be tried. heads: kinds to be tried beside
    the first; None: those that are worth it for so many photos. digests: each image's own sha256, where groups hold copies.
    validation, learns_from_validation: see LabelledCodes. results: of earlier runs. budget: seconds after which nothing more
    is begun; None: no clock decides.
    """

    codes_of: CodesOf
    labels: np.ndarray
    n_classes: int
    groups: Sequence[bytes]
    views: Sequence[str] = ()
    heads: Sequence[str] | None = None
    digests: Sequence[bytes] | None = None
    balance: bool = False
    budget: float | None = None
    validation: np.ndarray | None = None
    learns_from_validation: bool = False
    results: Results | None = None
    threads: int | None = None
    progress: Progress = lambda *_: None

    def learn(self, first: Candidate) -> Selection:
        """Fit the first candidate, and what is tried beside it; gives the best, fitted on all the images.

        Interrupted (Ctrl-C) once there is a first, it tries no more and goes on with the best so far.
        """
        self._started = time.monotonic()
        every = np.arange(len(self.labels))
        to_try = list(self._candidates(first))
        self.progress("rung", 0, len(to_try) + 1)
        compared = every
        if any(name != "head hidden" for name, _ in to_try):
            compared = sample(
                self.groups, self.labels, self.n_classes, most=MOST_COMPARED, digests=self.digests, balance=self.balance
            )
        best = self._try(first, compared)
        rungs = [rung_of(_name_of(first), best, True, "where it begins")]
        try:
            for at, (name, change) in enumerate(to_try, start=1):
                self.progress("rung", at, len(to_try) + 1)
                with underway(self.progress, f"{name}; {_so_far(best)}"):
                    if name == "head hidden" and len(best.labels) < len(every):  # only all of them show what it is good for
                        best = self._try(best.candidate, every)
                    rows = every if name == "head hidden" else compared
                    best, rung = self._climb(name, change(best.candidate), best, rows, len(to_try))
                rungs.append(rung)
        except KeyboardInterrupt:  # once: what there is so far becomes a whole run
            log.warning("no more is tried; what was best so far is kept. Ctrl-C again stops at once")
            rungs += [_rung_not_tried(name, "not tried: interrupted", is_cut=True) for name, _ in to_try[len(rungs) - 1 :]]
        if len(best.labels) < len(every):
            best = self._try(best.candidate, every)
        self.progress("rung", len(to_try) + 1, len(to_try) + 1)
        return Selection(best.candidate.representation, best.choice, tuple(rungs))

    def _climb(self, name: str, candidate: Candidate, best: Attempt, rows: np.ndarray, n_tried: int) -> tuple[Attempt, Rung]:
        """Try a candidate, if time allows; gives the better one, and what became of it."""
        if self.budget is not None and time.monotonic() - self._started > self.budget:
            return best, _rung_not_tried(name, f"not tried: the budget of {self.budget:g} s is spent", is_cut=True)
        try:
            attempt = self._try(candidate, rows)
        except BackboneError as error:  # what is only tried shall not end the run
            return best, _rung_not_tried(name, f"not possible: {error}")
        is_better, why = compare_attempts(best, attempt, n_tried=n_tried)
        return (attempt if is_better else best), rung_of(name, attempt, is_better, why)

    def _candidates(self, first: Candidate) -> Iterator[tuple[str, Callable[[Candidate], Candidate]]]:
        """Names, and what each makes of the best candidate so far."""
        views = tuple(view for view in self.views if view != MIRRORED or not first.representation.is_mirrored)
        if views:
            yield (
                f"views {', '.join(views)}",
                lambda best: replace(best, representation=replace(best.representation, views=views)),
            )
        for kind in self._kinds(first.head):
            yield f"head {kind}", lambda best, kind=kind: replace(best, head=kind)  # type: ignore[misc]

    def _kinds(self, first: str) -> Sequence[str]:
        """Kinds of heads that are worth trying: for few photos of a class their mean, for very many a hidden layer."""
        if self.heads is not None:
            return self.heads
        is_few = self.labels.ndim == 1 and len(self.labels) <= FEW_PER_CLASS * self.n_classes
        is_many = first == "softmax" and len(self.labels) >= FROM_HIDDEN
        return ["class-mean"] * is_few + ["hidden"] * is_many

    def _try(self, candidate: Candidate, rows: np.ndarray) -> Attempt:
        """Compute a candidate's codes of some of the images, and choose a head on them."""
        start = time.monotonic()
        data = self._labelled(candidate.representation, rows)

        def choose() -> dict[str, np.ndarray]:
            return choice_arrays(
                choose_head(data, kind=candidate.head, balance=self.balance, threads=self.threads, progress=self.progress)
            )

        inputs = [*data.identity(), candidate.head, self.balance]
        choice = choice_of_arrays(self.results.arrays("head", inputs, choose) if self.results else choose())
        return Attempt(candidate, choice, time.monotonic() - start, data.labels, data.groups)

    def _labelled(self, representation: Representation, rows: np.ndarray) -> LabelledCodes:
        data = LabelledCodes.represented(
            self.codes_of(representation, rows),
            self.labels[rows],
            self.n_classes,
            [self.groups[i] for i in rows.tolist()],
            representation,
        )
        validation = None if self.validation is None else self.validation[rows]
        return replace(data, validation=validation, learns_from_validation=self.learns_from_validation)


def _with_views(best: Candidate, views: tuple[str, ...]) -> Candidate:
    return replace(best, representation=replace(best.representation, views=views))


def _name_of(first: Candidate) -> str:
    """What the first candidate is, in words."""
    representation = first.representation
    words = [
        "last layer" if representation.n_layers == 1 else "mean of layers",
        *(["mirrored"] if representation.is_mirrored else []),
        *([f"{len(representation.backbones)} backbones"] if len(representation.backbones) > 1 else []),
        *([first.head] if first.head != "softmax" else []),
    ]
    return ", ".join(words)


def _so_far(best: Attempt) -> str:
    """The best result so far, for people who wait."""
    if not len(best.choice.held_out):
        return "nothing to judge by"
    accuracy, (low, high) = best.accuracy
    return f"so far {percent(accuracy)} ({percent(low)} to {percent(high)})"


def _rung_not_tried(name: str, why: str, *, is_cut: bool = False) -> Rung:
    return Rung(name, "", None, None, None, 0.0, 0, False, why, is_cut=is_cut)
