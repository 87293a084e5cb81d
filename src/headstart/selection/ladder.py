"""The ladder of accuracy: each rung is tried on held-out images, and taken if it is worth it.

Takes what gives the codes of images as a rung sees them; gives the rung where the climb ended, and what became of the
others. It decides backbone, pixels, depth of codes, mirroring, views and the kind of head; ties go to the simpler. Many
images are sampled for it, so that choosing costs little, and only the rung that was chosen sees them all.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from headstart.backbones.backbone import Backbone
from headstart.codes.representation import MIRRORED, Representation
from headstart.data.labels import members
from headstart.errors import BackboneError
from headstart.progress import Progress
from headstart.selection.cross_validation import Choice, choose_head
from headstart.selection.rungs import Attempt, Candidate, Climb, Learned, Rung, compare_attempts, rung_of

LAYER_COUNTS = (
    2,
    5,
    8,
)  # how many layers' codes a head may read: with the last depthwise stage, the last four, the last seven
FROM_DEEPEST = 5_000  # images from which on the last of these is tried: of hundreds it is chosen too often (docs/LOG.md)
FEW_IMAGES, MANY_IMAGES = 1_500, 5_000  # a fifth of the images, within these limits, is chosen by
FROM_HIDDEN = 20_000  # images from which on a hidden layer is tried; below, it gained less than it cost (docs/LOG.md)
BUDGET = 60.0  # seconds
FROM_TIMED, N_TIMED = 500, (8, 64)  # images from which on their codes are timed first, and how many of them
HIDDEN_TIMES = 2.5  # seconds of the softmax's fit that a hidden layer takes, at most
FEW_PER_CLASS = 10  # images a class up to which the nearest class mean is tried


CodesOf = Callable[[Representation, np.ndarray], np.ndarray]
"""Gives (m, d) or, with views, (m, v, d) codes of some of the images."""


@dataclass
class Ladder:
    """The images to choose by, and the time for it.

    codes_of: see CodesOf. wider: gives a backbone that looks at the whole photo, or None. others: backbones to compare with
    and to join. views: to be tried, mirroring alone where None. heads: kinds to be tried beside the first. contents: each
    image's own sha256, where digests are those of groups. budget: seconds;
    0 leaves it at the first rung.
    """

    codes_of: CodesOf
    labels: np.ndarray
    n_classes: int
    digests: Sequence[bytes]
    wider: Callable[[Backbone], Backbone | None]
    others: Sequence[Backbone] = ()
    views: Sequence[str] | None = None
    heads: Sequence[str] | None = None
    contents: Sequence[bytes] | None = None
    balance: bool = False
    budget: float = BUDGET
    threads: int | None = None
    progress: Progress = lambda *_: None
    _n_timed: int = 0

    def learn(self, first: Candidate) -> Learned:
        """Climb, and fit the head on all the images; of many, a hidden layer is tried then."""
        started = time.monotonic()
        climb = self.climb(first)
        look, kind = climb.candidate.look, climb.candidate.head
        if climb.choice is not None:
            return Learned(look, climb.choice, climb.rungs)
        codes = self.codes_of(look, np.arange(len(self.labels)))
        choice, seconds = self._fitted(codes, look, kind)
        rungs = climb.rungs
        if self.heads is None and kind == "softmax" and len(self.labels) >= FROM_HIDDEN and self.budget > 0:
            left = self.budget - (time.monotonic() - started)
            if left < HIDDEN_TIMES * seconds:
                why = f"not tried: about {HIDDEN_TIMES * seconds:.0f} s, {max(0.0, left):.0f} s of the budget are left"
                rungs = (*rungs, Rung("head hidden", "", None, None, None, 0.0, 0, False, why))
            else:
                other, seconds = self._fitted(codes, look, "hidden")
                before = Attempt(climb.candidate, choice, 0.0, 0.0, self.labels, self.digests)
                after = Attempt(replace(climb.candidate, head="hidden"), other, 0.0, seconds, self.labels, self.digests)
                is_better, why = compare_attempts(before, after)
                rungs = (*rungs, rung_of("head hidden", after, is_better, why))
                choice = other if is_better else choice
        return Learned(look, choice, rungs)

    def climb(self, first: Candidate) -> Climb:
        """Try rung after rung from the first; every one builds on those that were taken."""
        self._sample = sample(self.digests, self.labels, self.n_classes, contents=self.contents, balance=self.balance)
        started = time.monotonic()
        to_try = list(self._rungs()) if self.budget > 0 else []
        self.progress("rung", 0, len(to_try) + 1)
        best, rungs = self._tried(first), []
        rungs.append(rung_of("last layer" if first.head == "softmax" else first.head, best, True, "where the climb begins"))
        for at, (name, candidates) in enumerate(to_try, start=1):
            self.progress("rung", at, len(to_try) + 1)
            for candidate in candidates(best.candidate):
                left = self.budget - (time.monotonic() - started)
                try:
                    too_long = self._too_long(candidate, best, left)
                except BackboneError as error:
                    too_long = f"not possible: {error}"
                if too_long is not None:
                    rungs.append(Rung(name, "", None, None, None, 0.0, 0, False, too_long))
                    continue
                try:
                    trial = self._tried(candidate)
                except BackboneError as error:  # what is only tried shall not end the run
                    rungs.append(Rung(name, "", None, None, None, 0.0, 0, False, f"not possible: {error}"))
                    continue
                is_better, why = compare_attempts(best, trial)
                rungs.append(rung_of(name, trial, is_better, why))
                best = trial if is_better else best
        self.progress("rung", len(to_try) + 1, len(to_try) + 1)
        whole = len(self._sample) == len(self.labels)
        return Climb(best.candidate, best.choice if whole else None, tuple(rungs))

    def _rungs(self) -> Iterator[tuple[str, Callable[[Candidate], Sequence[Candidate]]]]:
        """Names, and what each rung makes of the best candidate so far."""
        yield "deeper codes", self._deeper
        yield "whole photo", self._wider
        if self.views is None or MIRRORED in self.views:
            yield "mirrored", lambda best: [] if not _can_mirror(best.look) else [_with(best, is_mirrored=True)]
        if views := [view for view in self.views or () if view != MIRRORED]:
            yield f"views {', '.join(views)}", lambda best: [_with(best, views=tuple(views))]
        for other in self.others:
            yield other.name, partial(self._with_another, other=other)
        for kind in self._kinds():
            yield f"head {kind}", partial(_with_head, kind=kind)

    def _kinds(self) -> Sequence[str]:
        """Kinds of heads that are worth trying; a hidden layer has a place of its own, on all the images."""
        if self.heads is not None:
            return self.heads
        few = self.labels.ndim == 1 and len(self.labels) <= FEW_PER_CLASS * self.n_classes
        return ["class-mean"] if few else []

    def _deeper(self, best: Candidate) -> Sequence[Candidate]:
        most = min(len(backbone.widths) for backbone in best.look.backbones)
        layer_counts = LAYER_COUNTS if len(self.labels) >= FROM_DEEPEST else LAYER_COUNTS[:-1]
        return [
            _with(best, n_layers=n_layers)
            for n_layers in sorted({min(n_layers, most) for n_layers in layer_counts} - {1, best.look.n_layers})
        ]

    def _wider(self, best: Candidate) -> Sequence[Candidate]:
        wider = [self.wider(backbone) for backbone in best.look.backbones]
        if None in wider:
            return []
        # One layer may do where several did not: more pixels make the last layers' maps larger.
        layer_counts = (
            sorted({best.look.n_layers, 2})
            if best.look.n_layers <= 2 and self._has_deeper(best.look)
            else [best.look.n_layers]
        )
        return [_with(best, backbones=tuple(wider), n_layers=n_layers) for n_layers in layer_counts]

    def _has_deeper(self, look: Representation) -> bool:
        return all(len(backbone.widths) > 1 for backbone in look.backbones)

    def _with_another(self, best: Candidate, *, other: Backbone) -> Sequence[Candidate]:
        """The best look with another backbone in place of its own, and beside them, at the same pixels."""
        first = best.look.backbones[0]
        same = other if other.preprocess == first.preprocess else self.wider(other) or other
        if best.look.is_mirrored and not same.can_mirror:
            return []
        if same.sha256 in {backbone.sha256 for backbone in best.look.backbones}:
            return []
        looks: list[tuple[Backbone, ...]] = [(same,)]
        if _fit_together(first, same):
            looks.append((*best.look.backbones, same))
        n_layers = min(best.look.n_layers, len(same.widths))
        return [_with(best, backbones=backbones, n_layers=n_layers) for backbones in looks]

    def _tried(self, candidate: Candidate) -> Attempt:
        start = time.monotonic()
        codes = self.codes_of(candidate.look, self._sample)
        seconds = time.monotonic() - start
        choice, _ = self._fitted(codes, candidate.look, candidate.head, self._sample)
        digests = [self.digests[i] for i in self._sample]
        return Attempt(candidate, choice, seconds, time.monotonic() - start, self.labels[self._sample], digests)

    def _fitted(
        self, codes: np.ndarray, look: Representation, kind: str, rows: np.ndarray | slice = slice(None)
    ) -> tuple[Choice, float]:
        """Choose a head on the codes of some of the images; gives its seconds, too."""
        start = time.monotonic()
        choice = choose_head(
            codes,
            self.labels[rows],
            self.n_classes,
            [self.digests[i] for i in np.arange(len(self.labels))[rows]],
            kind=kind,
            widths=look.widths,
            balance=self.balance,
            threads=self.threads,
            progress=self.progress,
        )
        return choice, time.monotonic() - start

    def _too_long(self, candidate: Candidate, best: Attempt, left: float) -> str | None:
        """Why there is no time for a candidate: its codes of all the images, should it be taken, or a fit like the last."""
        fit = best.seconds - best.codes_seconds
        codes = self._seconds_for(candidate.look) if _is_new(candidate.look, best.candidate.look) else 0.0
        if codes + fit > left:
            return (
                f"not tried: about {codes + fit:.0f} s, of the budget's {self.budget:.0f} s {max(0.0, left):.0f} s are left"
            )
        return None

    def _seconds_for(self, look: Representation) -> float:
        """About how long all the images' codes would take, by a few of them, evenly spread; what is kept takes no time.

        Two numbers of images are timed, for the difference has no share of what comes once, the network's compilation.
        """
        n = len(self.labels)
        if n < FROM_TIMED:
            return 0.0
        self._n_timed += 1  # other images each time: those of the last time are kept by now
        spread = (np.linspace(0, n, sum(N_TIMED), endpoint=False).astype(np.int64) + 3 * self._n_timed) % n
        few = spread[:: len(spread) // N_TIMED[0]]
        seconds = []
        for rows in (few, np.setdiff1d(spread, few)):
            start = time.monotonic()
            self.codes_of(look, rows)
            seconds.append((time.monotonic() - start, len(rows)))
        (once, n_few), (more, n_more) = seconds
        return max(0.0, (more - once) / (n_more - n_few)) * n


def sample(
    digests: Sequence[bytes],
    labels: np.ndarray,
    n_classes: int,
    *,
    contents: Sequence[bytes] | None = None,
    balance: bool = False,
) -> np.ndarray:
    """The images to choose by, in order: all of a few, a fifth of many, the same ones however they are named or ordered.

    digests: the same for images that are one photo; a second copy of one comes after the first copies of all. contents: each
    image's own sha256. balance: as many different photos of each class as there are and fit, for the rarest classes decide
    how much is known.
    """
    n = min(len(digests), max(FEW_IMAGES, min(MANY_IMAGES, len(digests) // 5)))
    by_content = sorted(range(len(digests)), key=lambda i: (digests[i], contents[i] if contents else b""))
    photo_of_class = _photo_of_class(digests, labels, n_classes)
    copy = np.zeros(len(digests), np.int64)
    for before, i in itertools.pairwise(by_content):
        copy[i] = copy[before] + 1 if digests[i] == digests[before] else 0
    by_content.sort(key=lambda i: (copy[i], photo_of_class[i] if balance else 0))
    kept = {*by_content[:n], *np.flatnonzero((photo_of_class < FEW_PER_CLASS) & (copy == 0)).tolist()}
    return np.array(sorted(kept), np.int64)


def _photo_of_class(digests: Sequence[bytes], labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Which of the different photos of its class each image is, from 0, in the order of hashes; of its rarest label."""
    place = np.full(len(digests), len(digests))
    for of_class in members(labels, n_classes):  # a class of a few photos must not be missed, nor all but copies of one
        of_digest = {digest: j for j, digest in enumerate(sorted({digests[i] for i in of_class.tolist()}))}
        place[of_class] = np.minimum(place[of_class], [of_digest[digests[i]] for i in of_class.tolist()])
    return place


def _with(best: Candidate, **changes: Any) -> Candidate:
    return replace(best, look=replace(best.look, **changes))


def _with_head(best: Candidate, *, kind: str) -> Sequence[Candidate]:
    return [replace(best, head=kind)]


def _can_mirror(look: Representation) -> bool:
    return not look.is_mirrored and all(backbone.can_mirror for backbone in look.backbones)


def _fit_together(one: Backbone, other: Backbone) -> bool:
    """Whether two networks can look at the same pixels; what each makes of them, normalisation, is inside."""
    a, b = one.preprocess, other.preprocess
    return (a.size, a.crop, a.resample, one.opset) == (b.size, b.crop, b.resample, other.opset)


def _is_new(look: Representation, known: Representation) -> bool:
    """Whether a look needs other passes than the one that is known."""
    return (look.backbones, look.is_mirrored, look.views) != (known.backbones, known.is_mirrored, known.views)
