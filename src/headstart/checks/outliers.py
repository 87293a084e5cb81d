"""Oddities: issues of single photos. What looks like none of the others, is blank, blurred, dark, bright, tiny or narrow.

Takes Evidence; gives Issues. It decides what is odd: what is wrong by itself and stands out from its own set as well, for
photos of stars are all dark, and photos of 32 pixels all small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.axes import first_axes
from headstart.datasets import EXCLUDED, NO_CLASS
from headstart.evidence import BORDER, Evidence, Issue
from headstart.glance import Glances
from headstart.head import unit_rows
from headstart.readings import whole_percent

N_NEAREST = 3
MOST_STORED = 5_000  # photos that each is compared with
N_AXES = 128  # of codes, where there are more photos than are stored
FEW_PHOTOS = 20  # below, nothing can be said to look like none of the others
STANDS_OUT = 3.0  # spreads from the middle of the set: 0 to 2 of 100 photos of clean sets, 6 of 10 from another set
FAR = 0.25  # cosine distance; in sets of one kind of photo all are nearer than that


def find_outliers(evidence: Evidence) -> Iterator[Issue]:
    if len(evidence.labels) < FEW_PHOTOS:
        return
    distances = _distances(evidence)
    spreads = _spreads(distances)
    usual = float(np.median(distances))
    for i in np.flatnonzero((spreads > STANDS_OUT) & (distances > FAR)).tolist():
        yield evidence.issue(
            "outlier",
            [i],
            BORDER * STANDS_OUT / spreads[i],
            f"looks like none of the others: {distances[i]:.2f} from the most similar ones; {usual:.2f} is usual here",
            "look whether it belongs to this set; take it out if not",
        )


def _distances(evidence: Evidence) -> np.ndarray:
    """The mean cosine distance of each photo to its nearest ones of other groups, (n,), among MOST_STORED of them.

    Of codes as they are, not from their middle: 91 % of photos of other sets are then further than 99 % of the set's own;
    from their middle, 60 %.
    """
    n, d = evidence.codes.shape
    stored = np.array(sorted(range(n), key=lambda i: evidence.digests[i])[:MOST_STORED], np.int64)
    near = unit_rows(evidence.codes[stored].astype(np.float32), (d,))
    # Products along some axes take a tenth of the time; what a row has besides makes it seem further away, odd ones more.
    axes = first_axes(near, N_AXES)[0] if n > MOST_STORED else None
    near = near if axes is None else near @ axes
    distances = np.empty(n, np.float32)
    for start in range(0, n, 1000):
        part = slice(start, start + 1000)
        rows = unit_rows(evidence.codes[part].astype(np.float32), (d,))
        cosines = (rows if axes is None else rows @ axes) @ near.T
        cosines[evidence.group_of[part, None] == evidence.group_of[stored]] = -1
        each, total = np.arange(len(cosines)), np.zeros(len(cosines), np.float32)
        for _ in range(N_NEAREST):  # three passes take a fifth of the time of a partition
            nearest = cosines.argmax(axis=1)
            total += cosines[each, nearest]
            cosines[each, nearest] = -1
        distances[part] = 1 - total / N_NEAREST
    return distances


def _spreads(values: np.ndarray) -> np.ndarray:
    """How many spreads each value is from the median; robust: odd values, up to a quarter of all, do not count.

    A spread is what the standard deviation would be, by the quartile that is further away, or by the median distance.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), float(max(high - middle, middle - low)) / 0.6745)
    return (values - middle) / max(spread, 1e-6)


@dataclass(frozen=True)
class _Bound:
    """When a number of a picture is told: beyond `limit` and STANDS_OUT spreads away from its set's; beyond `sure`, always.

    It is a lower bound where `sure` is below `limit`. is_ratio: spreads are those of its logarithm.
    """

    number: Callable[[Glances], np.ndarray]
    limit: float
    sure: float
    is_ratio: bool
    sentence: str
    suggestion: str


def _shorter(glances: Glances) -> np.ndarray:
    return np.minimum(glances.widths, glances.heights)


def _narrowness(glances: Glances) -> np.ndarray:
    return np.maximum(glances.widths, glances.heights) / np.maximum(_shorter(glances), 1)


BOUNDS = {
    "blank": _Bound(
        lambda g: g.contrast, 0.03, 0.005, False,
        "shows next to nothing: a contrast of {value:.3f}, where {usual:.2f} is usual here",
        "take it out, or photograph it again",
    ),
    "blurred": _Bound(
        lambda g: g.sharpness, 0.09, 0.0, True,
        "blurred: a sharpness of {value:.2f}, where {usual:.2f} is usual here",
        "look whether it still shows what it is labelled; keep it if the photos to come are like that",
    ),
    "dark": _Bound(
        lambda g: g.brightness, 0.1, 0.0, False,
        "very dark: {share} of full brightness, where {usual_share} is usual here",
        "look whether it still shows what it is labelled; brighten it, or take it out, if not",
    ),
    "bright": _Bound(  # from 0.9 on, most are things cut out upon white (CIFAR-10)
        lambda g: g.brightness, 0.95, 1.01, False,
        "very bright: {share} of full brightness, where {usual_share} is usual here",
        "look whether it still shows what it is labelled; take it out if not",
    ),
    "tiny": _Bound(
        _shorter, 64, 8, True,
        "tiny: {width} x {height} pixels, where a shorter side of {usual:.0f} is usual here",
        "look for the larger original: it may be a preview",
    ),
    "odd-aspect": _Bound(
        _narrowness, 3.0, 20.0, True,
        "long and narrow: {width} x {height} pixels; only the square in its middle is looked at",
        "cut it to what matters",
    ),
}  # fmt: skip


def find_beyond(evidence: Evidence, kind: str) -> Iterator[Issue]:
    if evidence.glances is None:
        return
    bound, glances = BOUNDS[kind], evidence.glances
    there = np.flatnonzero(glances.widths > 0)  # the others have gone since
    if not len(there):
        return
    values = bound.number(glances)[there].astype(np.float64)
    sign = -1 if bound.sure < bound.limit else 1
    spreads = sign * _spreads(np.log(np.maximum(values, 1e-3)) if bound.is_ratio else values)
    is_out = (sign * (values - bound.limit) > 0) & (spreads > STANDS_OUT) | (sign * (values - bound.sure) > 0)
    usual = float(np.median(values))
    for i, value in zip(there[is_out].tolist(), values[is_out].tolist(), strict=True):
        told = {"value": value, "usual": usual, "share": whole_percent(value), "usual_share": whole_percent(usual)}
        size = {"width": int(glances.widths[i]), "height": int(glances.heights[i])}
        how_far = value / bound.limit if sign < 0 else bound.limit / value
        yield evidence.issue(kind, [i], BORDER * how_far, bound.sentence.format(**told, **size), bound.suggestion)


def find_unreadable(evidence: Evidence) -> Iterator[Issue]:
    for path, reason in evidence.skipped:
        if reason != NO_CLASS and not reason.startswith(EXCLUDED):
            todo = "mend it, save it anew, or take it out; until then it is left out"
            yield Issue("unreadable", (path,), ("",), 0.3, f"cannot be used: {reason}", todo)
