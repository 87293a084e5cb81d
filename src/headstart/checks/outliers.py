"""Finds outliers: photos that look like none of the others, by the cosine distance of their codes.

Takes CheckInputs; gives Issues. It decides what stands out: what is far from its neighbours, and further than is usual in
its own set, for in some sets all photos are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.checks.issue import MAX_SCORE, CheckInputs, Issue
from headstart.numerics.losses import unit_rows
from headstart.numerics.neighbours import most_similar
from headstart.numerics.pca import first_axes

N_NEAREST = 3
MAX_REFERENCE = 5_000  # photos that each is compared with
N_AXES = 128  # that codes are projected onto where there are more photos than that
MIN_PHOTOS = 20  # with fewer, no photo is called an outlier
MIN_SPREADS = 3.0  # spreads from the middle of the set: 0 to 2 of 100 photos of clean sets, 6 of 10 from another set
MIN_DISTANCE = 0.25  # cosine distance; in sets of one kind of photo all are nearer than that


def find_outliers(inputs: CheckInputs) -> Iterator[Issue]:
    """Yield the photos that are far from their N_NEAREST most similar ones, compared with the rest of the set."""
    if len(inputs.labels) < MIN_PHOTOS:
        return
    distances = _neighbour_distances(inputs)
    spreads = in_spreads(distances)
    usual = float(np.median(distances))
    for i in np.flatnonzero((spreads > MIN_SPREADS) & (distances > MIN_DISTANCE)).tolist():
        yield inputs.issue(
            "outlier",
            [i],
            MAX_SCORE * MIN_SPREADS / spreads[i],
            f"looks like none of the others: {distances[i]:.2f} from the most similar ones; {usual:.2f} is usual here",
            "look whether it belongs to this set; take it out if not",
        )


def _neighbour_distances(inputs: CheckInputs) -> np.ndarray:
    """Compute each photo's mean cosine distance to its nearest photos of other groups, (n,), among MAX_REFERENCE of them.

    Of codes as they are, not from their middle: 91 % of photos of other sets are then further than 99 % of the set's own;
    from their middle, 60 %.
    """
    n, d = inputs.codes.shape
    reference = np.array(sorted(range(n), key=lambda i: inputs.digests[i])[:MAX_REFERENCE], np.int64)
    reference_rows = unit_rows(inputs.codes[reference].astype(np.float32), (d,))
    # Products along some axes take a tenth of the time; what a row has besides makes it seem further away, odd ones more.
    axes = first_axes(reference_rows, N_AXES)[0] if n > MAX_REFERENCE else None
    reference_rows = reference_rows if axes is None else reference_rows @ axes
    distances = np.empty(n, np.float32)
    for start in range(0, n, 1000):
        part = slice(start, start + 1000)
        rows = unit_rows(inputs.codes[part].astype(np.float32), (d,))
        rows, groups = rows if axes is None else rows @ axes, (inputs.group_of[part], inputs.group_of[reference])
        _, cosines = most_similar(rows, reference_rows, N_NEAREST, groups=groups)
        distances[part] = 1 - np.maximum(cosines, -1).mean(axis=1)  # -1 where there are fewer of other groups
    return distances


def in_spreads(values: np.ndarray) -> np.ndarray:
    """Measure how many spreads each value is from the median; robust against up to a quarter of odd values.

    A spread estimates the standard deviation by the quartile that is further away, or by the median distance, if larger.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), float(max(high - middle, middle - low)) / 0.6745)
    return (values - middle) / max(spread, 1e-6)
