"""Oddities: issues of single photos. What looks like none of the others, is blank, blurred, dark, bright, tiny or narrow.

Takes CheckInputs; gives Issues. It decides what is odd: what is wrong by itself and stands out from its own set as well, for
photos of stars are all dark, and photos of 32 pixels all small.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.checks.issue import BORDER, CheckInputs, Issue
from headstart.numerics.losses import unit_rows
from headstart.numerics.neighbours import most_similar
from headstart.numerics.pca import first_axes

N_NEAREST = 3
MOST_STORED = 5_000  # photos that each is compared with
N_AXES = 128  # of codes, where there are more photos than are stored
FEW_PHOTOS = 20  # below, nothing can be said to look like none of the others
STANDS_OUT = 3.0  # spreads from the middle of the set: 0 to 2 of 100 photos of clean sets, 6 of 10 from another set
FAR = 0.25  # cosine distance; in sets of one kind of photo all are nearer than that


def find_outliers(evidence: CheckInputs) -> Iterator[Issue]:
    if len(evidence.labels) < FEW_PHOTOS:
        return
    distances = _distances(evidence)
    spreads = in_spreads(distances)
    usual = float(np.median(distances))
    for i in np.flatnonzero((spreads > STANDS_OUT) & (distances > FAR)).tolist():
        yield evidence.issue(
            "outlier",
            [i],
            BORDER * STANDS_OUT / spreads[i],
            f"looks like none of the others: {distances[i]:.2f} from the most similar ones; {usual:.2f} is usual here",
            "look whether it belongs to this set; take it out if not",
        )


def _distances(evidence: CheckInputs) -> np.ndarray:
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
        rows = rows if axes is None else rows @ axes
        _, cosines = most_similar(rows, near, N_NEAREST, groups=(evidence.group_of[part], evidence.group_of[stored]))
        distances[part] = 1 - np.maximum(cosines, -1).mean(axis=1)  # -1 where there are fewer of other groups
    return distances


def in_spreads(values: np.ndarray) -> np.ndarray:
    """How many spreads each value is from the median; robust: odd values, up to a quarter of all, do not count.

    A spread is what the standard deviation would be, by the quartile that is further away, or by the median distance.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), float(max(high - middle, middle - low)) / 0.6745)
    return (values - middle) / max(spread, 1e-6)
