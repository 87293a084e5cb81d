"""The ladder: tries deeper layers, more pixels, mirroring, views, other backbones and heads, one after another.

Takes a function that gives codes of images under a representation; gives a Selection: the representation, its head, and a
rung for each candidate. Every candidate is judged on held-out images; ties go to the simpler. Of many images a sample is
taken for it, so that choosing costs little, and only what was chosen is fitted on them all.
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
from headstart.heads.labelled_codes import LabelledCodes
from headstart.progress import Progress
from headstart.selection.cross_validation import Choice, choose_head
from headstart.selection.rungs import Attempt, Candidate, Climb, Rung, Selection, compare_attempts, rung_of

LAYER_COUNTS = (2, 5, 8)  # whose codes a head may read: with the last depthwise stage, the last four, the last seven
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
    """The images to choose by, what may be tried, and the time for it.

    codes_of: see CodesOf. labels, n_classes, groups: see LabelledCodes. wider: gives a backbone that looks at the whole
    photo, or None. others: backbones to compare with and to join. views: to be tried, mirroring alone where None. heads:
    kinds to be tried beside the first. digests: each image's own sha256, where groups hold copies. budget: seconds; 0
    leaves it at the first rung.
    """

    codes_of: CodesOf
    labels: np.ndarray
    n_classes: int
    groups: Sequence[bytes]
    wider: Callable[[Backbone], Backbone | None]
    others: Sequence[Backbone] = ()
    views: Sequence[str] | None = None
    heads: Sequence[str] | None = None
    digests: Sequence[bytes] | None = None
    balance: bool = False
    budget: float = BUDGET
    threads: int | None = None
    progress: Progress = lambda *_: None
    _n_timed: int = 0

    def learn(self, first: Candidate) -> Selection:
        """Climb, and fit the head on all the images; of many, a hidden layer is tried then."""
        started = time.monotonic()
        climb = self.climb(first)
        representation, kind = climb.candidate.representation, climb.candidate.head
        if climb.choice is not None:
            return Selection(representation, climb.choice, climb.rungs)
        codes = self.codes_of(representation, np.arange(len(self.labels)))
        choice, seconds = self._choose(codes, climb.candidate)
        if self.heads is not None or kind != "softmax" or len(self.labels) < FROM_HIDDEN or self.budget <= 0:
            return Selection(representation, choice, climb.rungs)
        softmax = Attempt(climb.candidate, choice, 0.0, seconds, self.labels, self.groups)
        left = self.budget - (time.monotonic() - started)
        choice, rung = self._try_hidden_layer(codes, softmax, left)
        return Selection(representation, choice, (*climb.rungs, rung))

    def _try_hidden_layer(self, codes: np.ndarray, softmax: Attempt, left: float) -> tuple[Choice, Rung]:
        """Compare a hidden layer with softmax regression on all the images, if time allows; gives the better one."""
        if left < HIDDEN_TIMES * softmax.seconds:
            why = f"not tried: about {HIDDEN_TIMES * softmax.seconds:.0f} s, {max(0.0, left):.0f} s of the budget are left"
            return softmax.choice, _rung_not_tried("head hidden", why)
        candidate = replace(softmax.candidate, head="hidden")
        choice, seconds = self._choose(codes, candidate)
        hidden = Attempt(candidate, choice, 0.0, seconds, self.labels, self.groups)
        is_better, why = compare_attempts(softmax, hidden)
        return (hidden if is_better else softmax).choice, rung_of("head hidden", hidden, is_better, why)

    def climb(self, first: Candidate) -> Climb:
        """Try rung after rung from the first; every one builds on those that were taken."""
        self._sample = sample(self.groups, self.labels, self.n_classes, digests=self.digests, balance=self.balance)
        started = time.monotonic()
        to_try = list(self._rungs()) if self.budget > 0 else []
        self.progress("rung", 0, len(to_try) + 1)
        best, rungs = self._try(first), []
        rungs.append(rung_of("last layer" if first.head == "softmax" else first.head, best, True, "where the climb begins"))
        for at, (name, candidates) in enumerate(to_try, start=1):
            self.progress("rung", at, len(to_try) + 1)
            for candidate in candidates(best.candidate):
                left = self.budget - (time.monotonic() - started)
                try:
                    reason = self._reason_to_skip(candidate, best, left)
                    attempt = None if reason else self._try(candidate)
                except BackboneError as error:  # what is only tried shall not end the run
                    reason, attempt = f"not possible: {error}", None
                if attempt is None:
                    rungs.append(_rung_not_tried(name, str(reason)))
                    continue
                is_better, why = compare_attempts(best, attempt)
                rungs.append(rung_of(name, attempt, is_better, why))
                best = attempt if is_better else best
        self.progress("rung", len(to_try) + 1, len(to_try) + 1)
        is_whole = len(self._sample) == len(self.labels)
        return Climb(best.candidate, best.choice if is_whole else None, tuple(rungs))

    def _rungs(self) -> Iterator[tuple[str, Callable[[Candidate], Sequence[Candidate]]]]:
        """Names, and what each rung makes of the best candidate so far."""
        yield "deeper codes", self._deeper
        yield "whole photo", self._wider
        if self.views is None or MIRRORED in self.views:
            yield "mirrored", lambda best: [] if not _can_mirror(best.representation) else [_with(best, is_mirrored=True)]
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
        most = min(len(backbone.widths) for backbone in best.representation.backbones)
        counts = {min(n, most) for n in (LAYER_COUNTS if len(self.labels) >= FROM_DEEPEST else LAYER_COUNTS[:-1])}
        return [_with(best, n_layers=n) for n in sorted(counts - {1, best.representation.n_layers})]

    def _wider(self, best: Candidate) -> Sequence[Candidate]:
        wider = [self.wider(backbone) for backbone in best.representation.backbones]
        if None in wider:
            return []
        # One layer may do where several did not: more pixels make the last layers' maps larger.
        layer_counts = (
            sorted({best.representation.n_layers, 2})
            if best.representation.n_layers <= 2 and self._has_deeper(best.representation)
            else [best.representation.n_layers]
        )
        return [_with(best, backbones=tuple(wider), n_layers=n_layers) for n_layers in layer_counts]

    def _has_deeper(self, representation: Representation) -> bool:
        return all(len(backbone.widths) > 1 for backbone in representation.backbones)

    def _with_another(self, best: Candidate, *, other: Backbone) -> Sequence[Candidate]:
        """The best representation with another backbone in place of its own, and beside them, at the same pixels."""
        first = best.representation.backbones[0]
        same = other if other.preprocess == first.preprocess else self.wider(other) or other
        if best.representation.is_mirrored and not same.can_mirror:
            return []
        if same.sha256 in {backbone.sha256 for backbone in best.representation.backbones}:
            return []
        sides: list[tuple[Backbone, ...]] = [(same,)]
        if _can_share_pixels(first, same):
            sides.append((*best.representation.backbones, same))
        n_layers = min(best.representation.n_layers, len(same.widths))
        return [_with(best, backbones=backbones, n_layers=n_layers) for backbones in sides]

    def _try(self, candidate: Candidate) -> Attempt:
        """Compute a candidate's codes of the sampled images, and choose a head on them."""
        start = time.monotonic()
        codes = self.codes_of(candidate.representation, self._sample)
        codes_seconds = time.monotonic() - start
        choice, _ = self._choose(codes, candidate, self._sample)
        groups = [self.groups[i] for i in self._sample]
        return Attempt(candidate, choice, codes_seconds, time.monotonic() - start, self.labels[self._sample], groups)

    def _choose(
        self, codes: np.ndarray, candidate: Candidate, rows: np.ndarray | slice = slice(None)
    ) -> tuple[Choice, float]:
        """Choose a head on the codes of some of the images; gives its seconds, too."""
        start = time.monotonic()
        groups = [self.groups[i] for i in np.arange(len(self.labels))[rows]]
        data = LabelledCodes(codes, self.labels[rows], self.n_classes, groups, candidate.representation.widths)
        choice = choose_head(data, kind=candidate.head, balance=self.balance, threads=self.threads, progress=self.progress)
        return choice, time.monotonic() - start

    def _reason_to_skip(self, candidate: Candidate, best: Attempt, left: float) -> str | None:
        """Why there is no time for a candidate: its codes of all the images, should it be taken, or a fit like the last."""
        fit, codes = best.seconds - best.codes_seconds, 0.0
        if _needs_other_passes(candidate.representation, best.candidate.representation):
            codes = self._seconds_for(candidate.representation)
        if codes + fit > left:
            return (
                f"not tried: about {codes + fit:.0f} s, of the budget's {self.budget:.0f} s {max(0.0, left):.0f} s are left"
            )
        return None

    def _seconds_for(self, representation: Representation) -> float:
        """About how long all the images' codes would take, by a few of them, evenly spread; stored codes take no time.

        Two numbers of images are timed, for the difference has no share of what comes once, the network's compilation.
        """
        n = len(self.labels)
        if n < FROM_TIMED:
            return 0.0
        self._n_timed += 1  # other images each time: those of the last time are stored by now
        spread = (np.linspace(0, n, sum(N_TIMED), endpoint=False).astype(np.int64) + 3 * self._n_timed) % n
        few = spread[:: len(spread) // N_TIMED[0]]
        seconds = []
        for rows in (few, np.setdiff1d(spread, few)):
            start = time.monotonic()
            self.codes_of(representation, rows)
            seconds.append((time.monotonic() - start, len(rows)))
        (once, n_few), (more, n_more) = seconds
        return max(0.0, (more - once) / (n_more - n_few)) * n


def sample(
    groups: Sequence[bytes],
    labels: np.ndarray,
    n_classes: int,
    *,
    digests: Sequence[bytes] | None = None,
    balance: bool = False,
) -> np.ndarray:
    """Sample the images to choose by, in order: all of a few, a fifth of many, the same however they are named or ordered.

    groups: the same for copies of a photo; a second copy of one comes after the first copies of all. digests: each image's
    own sha256. balance: as many different photos of each class as there are and fit, for the rarest classes decide how much
    is known.
    """
    n = min(len(groups), max(FEW_IMAGES, min(MANY_IMAGES, len(groups) // 5)))
    by_content = sorted(range(len(groups)), key=lambda i: (groups[i], digests[i] if digests else b""))
    rank_in_class = _rank_in_class(groups, labels, n_classes)
    copy = np.zeros(len(groups), np.int64)
    for before, i in itertools.pairwise(by_content):
        copy[i] = copy[before] + 1 if groups[i] == groups[before] else 0
    by_content.sort(key=lambda i: (copy[i], rank_in_class[i] if balance else 0))
    rows = {*by_content[:n], *np.flatnonzero((rank_in_class < FEW_PER_CLASS) & (copy == 0)).tolist()}
    return np.array(sorted(rows), np.int64)


def _rank_in_class(groups: Sequence[bytes], labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Which of the different photos of its class each image is, from 0, in the order of hashes; of its rarest label."""
    rank = np.full(len(groups), len(groups))
    for of_class in members(labels, n_classes):  # a class of a few photos must not be missed, nor all but copies of one
        rank_of_group = {group: j for j, group in enumerate(sorted({groups[i] for i in of_class.tolist()}))}
        rank[of_class] = np.minimum(rank[of_class], [rank_of_group[groups[i]] for i in of_class.tolist()])
    return rank


def _rung_not_tried(name: str, why: str) -> Rung:
    return Rung(name, "", None, None, None, 0.0, 0, False, why)


def _with(best: Candidate, **changes: Any) -> Candidate:
    return replace(best, representation=replace(best.representation, **changes))


def _with_head(best: Candidate, *, kind: str) -> Sequence[Candidate]:
    return [replace(best, head=kind)]


def _can_mirror(representation: Representation) -> bool:
    return not representation.is_mirrored and all(backbone.can_mirror for backbone in representation.backbones)


def _can_share_pixels(one: Backbone, other: Backbone) -> bool:
    """Whether two networks can look at the same pixels; what each makes of them, normalisation, is inside."""
    a, b = one.preprocess, other.preprocess
    return (a.size, a.crop, a.resample, one.opset) == (b.size, b.crop, b.resample, other.opset)


def _needs_other_passes(representation: Representation, best: Representation) -> bool:
    """Whether a representation needs other passes of the backbone than the best one so far, whose codes are there."""
    ours, theirs = ((r.backbones, r.is_mirrored, r.views) for r in (representation, best))
    return ours != theirs
