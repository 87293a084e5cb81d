"""Finds images of bad quality: blank, blurred, dark, bright, tiny or narrow ones, and files that cannot be read.

A check is a row of BOUNDS: the number that it measures, two limits, and what its issue says; kinds.KINDS names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.checks.issue import MAX_SCORE, CheckInputs, Issue
from headstart.checks.outliers import MIN_SPREADS, in_spreads
from headstart.codes.image_stats import ImageStats
from headstart.data.datasets import EXCLUDED, NO_CLASS
from headstart.wording import whole_percent


@dataclass(frozen=True)
class _Bound:
    """When a number measured on an image is an issue: beyond `limit` and MIN_SPREADS spreads from the set's median, or
    beyond `sure` in any set.

    It is a lower bound where `sure` is below `limit`. is_ratio: spreads are those of the number's logarithm. sentence: with
    the fields value, usual, share, usual_share, width and height.
    """

    number: Callable[[ImageStats], np.ndarray]
    limit: float
    sure: float
    is_ratio: bool
    sentence: str
    suggestion: str


def _shorter_side(image_stats: ImageStats) -> np.ndarray:
    return np.minimum(image_stats.widths, image_stats.heights)


def _aspect_ratio(image_stats: ImageStats) -> np.ndarray:
    return np.maximum(image_stats.widths, image_stats.heights) / np.maximum(_shorter_side(image_stats), 1)


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
        _shorter_side, 64, 8, True,
        "tiny: {width} x {height} pixels, where a shorter side of {usual:.0f} is usual here",
        "look for the larger original: it may be a preview",
    ),
    "odd-aspect": _Bound(
        _aspect_ratio, 3.0, 20.0, True,
        "long and narrow: {width} x {height} pixels; only the square in its middle is looked at",
        "cut it to what matters",
    ),
}  # fmt: skip


def find_beyond(inputs: CheckInputs, kind: str) -> Iterator[Issue]:
    """Yield the images that are beyond BOUNDS[kind]."""
    if inputs.image_stats is None:
        return
    bound, image_stats = BOUNDS[kind], inputs.image_stats
    rows = np.flatnonzero(image_stats.widths > 0)  # the other files have gone since
    if not len(rows):
        return
    values = bound.number(image_stats)[rows].astype(np.float64)
    sign = -1 if bound.sure < bound.limit else 1
    spreads = sign * in_spreads(np.log(np.maximum(values, 1e-3)) if bound.is_ratio else values)
    is_out = (sign * (values - bound.limit) > 0) & (spreads > MIN_SPREADS) | (sign * (values - bound.sure) > 0)
    usual = float(np.median(values))
    for i, value in zip(rows[is_out].tolist(), values[is_out].tolist(), strict=True):
        numbers = {"value": value, "usual": usual, "share": whole_percent(value), "usual_share": whole_percent(usual)}
        size = {"width": int(image_stats.widths[i]), "height": int(image_stats.heights[i])}
        how_far = value / bound.limit if sign < 0 else bound.limit / value
        yield inputs.issue(kind, [i], MAX_SCORE * how_far, bound.sentence.format(**numbers, **size), bound.suggestion)


def find_unreadable(inputs: CheckInputs) -> Iterator[Issue]:
    """Yield the files that were skipped because they cannot be used as images."""
    for path, reason in inputs.skipped:
        if reason != NO_CLASS and not reason.startswith(EXCLUDED):
            todo = "mend it, save it anew, or take it out; until then it is left out"
            yield Issue("unreadable", (path,), ("",), 0.3, f"cannot be used: {reason}", todo)
