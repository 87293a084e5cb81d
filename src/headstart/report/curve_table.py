"""The curves of a run, a row of CURVES each: accuracy, cross entropy and learning rate over steps, epochs and photos.

A row says where run.json has the numbers, by the keys of headstart.record's types; plots/curves.py, tensorboard/write.py
and, through the page's data, web/report.js draw them. A new curve is one row: the entry of RunRecord and its list of
points, what counts the points, the split and the measure, and the key of the number in a point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from headstart.record import RunRecord


class Curve(NamedTuple):
    """A row of CURVES: record[entry][points] is a list of points, in which point[key] measures a split at point[counter]."""

    entry: str
    points: str
    counter: str
    split: str
    measure: str
    key: str

    def points_of(self, record: RunRecord) -> Sequence[Mapping[str, Any]]:
        """Give the curve's points in a record; none where the run has no such entry."""
        return (cast(Mapping[str, Any], record).get(self.entry) or {}).get(self.points) or ()

    def numbers(self, record: RunRecord) -> list[tuple[int, float]]:
        """Give the curve as (counter, number) of each point; points without a number are left out."""
        return [(p[self.counter], p[self.key]) for p in self.points_of(record) if p.get(self.key) is not None]


ACCURACY, CROSS_ENTROPY, LEARNING_RATE = "accuracy", "cross_entropy", "learning_rate"
CURVES = (
    Curve("fitting", "steps", "step", "train", ACCURACY, "train_accuracy"),
    Curve("fitting", "steps", "step", "train", CROSS_ENTROPY, "train_cross_entropy"),
    Curve("fitting", "steps", "step", "validation", ACCURACY, "validation_accuracy"),
    Curve("fitting", "steps", "step", "validation", CROSS_ENTROPY, "validation_cross_entropy"),
    Curve("fine_tuning", "history", "epoch", "train", CROSS_ENTROPY, "train_loss"),
    Curve("fine_tuning", "history", "epoch", "train", LEARNING_RATE, "lr"),
    Curve("fine_tuning", "history", "epoch", "validation", ACCURACY, "validation_accuracy"),
    Curve("fine_tuning", "history", "epoch", "validation", CROSS_ENTROPY, "validation_loss"),
    Curve("learning_curve", "points", "n_images", "validation", ACCURACY, "accuracy"),
    Curve("learning_curve", "points", "n_images", "validation", CROSS_ENTROPY, "cross_entropy"),
)


def find_curve(entry: str, split: str, measure: str) -> Curve | None:
    """Find a row of CURVES; None where nothing is measured so."""
    return next((c for c in CURVES if (c.entry, c.split, c.measure) == (entry, split, measure)), None)


def page_curves() -> dict[str, dict[str, dict[str, str]]]:
    """Give the keys as web/report.js reads them: of each entry and measure, the key of each split."""
    table: dict[str, dict[str, dict[str, str]]] = {}
    for curve in CURVES:
        table.setdefault(curve.entry, {}).setdefault(curve.measure, {})[curve.split] = curve.key
    return table
