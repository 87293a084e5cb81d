"""Draws the confusion matrix and the reliability diagram (calibration) of a run.

Takes run.json; gives a Figure. It decides which of many classes are shown, and the sentence above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from headstart.errors import DataError
from headstart.record import BinRecord, CalibrationRecord, RunRecord
from headstart.report.colours import BLUE, SKY
from headstart.report.plots.style import (
    BLACK,
    PALE,
    QUIET,
    STYLE,
    in_style,
    new_figure,
    percent_axis,
    readable,
    wrapped,
)
from headstart.report.sentences.trust import is_corrected
from headstart.wording import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_CONFUSED = 30  # classes whose names can still be read


@in_style
def confusion(record: RunRecord) -> Figure:
    """Draw the confusion matrix: counts, coloured by their share of the label's photos.

    Of many classes the worst MOST_CONFUSED are shown. Raises DataError for several labels an image.
    """
    evaluation = record["evaluation"]
    if not evaluation.get("confusion"):
        raise DataError("a photo may have several labels here, so that none is taken for another; there is no such table")
    table = np.array(evaluation["confusion"])
    names = [readable(name) for name in record["classes"]]
    title = _confusion_title(table, names, evaluation["split"])
    if len(names) > MOST_CONFUSED:
        errors = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
        rows = np.sort(np.argsort(-errors, kind="stable")[:MOST_CONFUSED])
        title += f"\nThe {MOST_CONFUSED} classes of {len(names):,} with the most mistakes."
    else:
        rows = np.arange(len(names))
    share = (table / np.maximum(table.sum(axis=1, keepdims=True), 1))[np.ix_(rows, rows)]
    table, names = table[np.ix_(rows, rows)], [names[i] for i in rows]
    side = 2.6 + max(0.32 * len(rows), 1.8)
    figure = new_figure(side + 0.5, side + 0.3)
    axis = figure.subplots()
    _draw_table(axis, table, share)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("prediction")
    axis.set_ylabel("label")
    figure.suptitle(wrapped(title, int(13 * (side + 0.5))), x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
    return figure


def _draw_table(axis: Axes, table: np.ndarray, share: np.ndarray) -> None:
    """Draw right predictions in blue and mistakes in orange, both darker for a larger share of the label's photos."""
    is_right = np.eye(len(table), dtype=bool)
    for colours, hidden in (("Blues", ~is_right), ("Oranges", is_right | (table == 0))):
        axis.imshow(np.ma.masked_array(share, hidden), cmap=colours, vmin=0, vmax=1, aspect="equal")
    axis.set_xticks(np.arange(0.5, len(table) - 1), minor=True)
    axis.set_yticks(np.arange(0.5, len(table) - 1), minor=True)
    axis.grid(False)
    axis.grid(True, which="minor", lw=0.6)
    size = float(np.clip(110 / len(table), 5.5, 10))
    for row, column in np.argwhere(table).tolist():
        dark = share[row, column] > 0.55
        axis.text(
            column, row, f"{table[row, column]}", ha="center", va="center", size=size, color="white" if dark else BLACK
        )
    axis.tick_params(which="both", length=0, labelcolor=BLACK)
    axis.spines[:].set_visible(False)


def _confusion_title(table: np.ndarray, names: Sequence[str], split: str) -> str:
    n, wrong = int(table.sum()), table - np.diag(table.diagonal())
    if not wrong.any():
        return f"{'The one photo is' if n == 1 else f'All {n:,} photos are'} labelled rightly ({split})."
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return (
        f"{wrong.sum():,} of {counted(n, 'photo')} {'is' if wrong.sum() == 1 else 'are'} labelled wrongly ({split}); "
        f"most often: {names[int(row)]} taken for {names[int(column)]} ({wrong[row, column]:,})."
    )


@in_style
def calibration(record: RunRecord) -> Figure:
    """Draw the reliability diagram (DeGroot & Fienberg 1983), before and after calibration, and the photos of each bin.

    Raises DataError where the run has no calibration.
    """
    calibration_record = record.get("calibration")
    if not calibration_record or not calibration_record.get("bins"):
        raise DataError("this run has no calibration: it had too few photos for one, or is of an earlier release")
    figure = new_figure(5.6, 6.2)
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axis.plot([0, 1], [0, 1], color=QUIET, lw=1, ls="--", label="as often right as it says")
    if is_corrected(calibration_record):
        x, y = _columns(calibration_record.get("bins_before") or (), "probability", "accuracy")
        axis.plot(x, y, "o-", mfc="white", lw=1, color=PALE, mec=QUIET, label="before calibration")
    x, y = _columns(calibration_record["bins"], "probability", "accuracy")
    low, high = np.array([b["interval"] for b in calibration_record["bins"]]).T
    axis.vlines(x, low, high, color=BLUE, lw=1.5, alpha=0.6, label="95 % interval")
    axis.plot(x, y, "o", ms=7, color=BLUE, label="after calibration" if is_corrected(calibration_record) else "measured")
    percent_axis(axis.yaxis)
    axis.set_ylabel("share that is right")
    axis.set_xlim(-0.02, 1.05)
    axis.set_ylim(-0.02, 1.02)
    axis.legend(loc="upper left")
    n = _columns(calibration_record["bins"], "n")[0]
    below.bar(x, n, width=_bar_width(x), color=SKY)
    below.set_ylabel("photos")
    below.set_xlabel("probability of the prediction")
    percent_axis(below.xaxis)
    axis.set_title(wrapped(_calibration_title(calibration_record), 64))
    return figure


def _columns(bins: Sequence[BinRecord], *keys: Literal["probability", "accuracy", "n"]) -> list[np.ndarray]:
    return [np.array([b[key] for b in bins]) for key in keys]


def _bar_width(x: np.ndarray) -> float:
    """Choose the width of bars that do not touch, where there is room."""
    return float(np.clip(0.8 * np.diff(np.sort(x)).min(initial=0.1), 0.01, 0.08))


def _calibration_title(c: CalibrationRecord) -> str:
    title = f"Probabilities are off by {percent(c['error_after'])} on average"
    error_before, bias = c.get("error_before"), c.get("bias")
    if error_before is not None and is_corrected(c):
        title += f", {percent(error_before)} before calibration"
    if bias is not None:
        title += f"; of {counted(c['n_images'], 'photo')} even perfect ones would seem off by {percent(bias)}"
    return f"{title}."
