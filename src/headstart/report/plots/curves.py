"""Draws training curves: accuracy and cross entropy over steps and epochs, and the learning curve over photos.

Takes run.json; gives a Figure. It decides which curves share a panel, and the sentence above each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.errors import DataError
from headstart.record import LearningCurveRecord, RunRecord
from headstart.report.colours import BLUE, GREEN, ORANGE, PINK
from headstart.report.curve_table import ACCURACY, CROSS_ENTROPY, find_curve
from headstart.report.plots.style import QUIET, in_style, new_figure, percent_axis, wrapped
from headstart.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SPLITS = {"train": BLUE, "validation": ORANGE}


class _Panel(NamedTuple):
    """A panel of steps and epochs: its measure in report.curve_table, the name of that, and whether it is a share."""

    measure: str
    name: str
    is_share: bool


PANELS = (_Panel(ACCURACY, "accuracy", True), _Panel(CROSS_ENTROPY, "cross entropy", False))


@in_style
def curves(record: RunRecord) -> Figure:
    """Draw accuracy and cross entropy at each step, fine-tuning behind a line, and the learning curve.

    Raises DataError where the run holds none of them.
    """
    fitting, fine_tuning, learning_curve = record.get("fitting"), record.get("fine_tuning"), record.get("learning_curve")
    steps = [step["step"] for step in fitting.get("steps", ())] if fitting else []
    n_epochs = len(fine_tuning.get("history", ())) if fine_tuning else 0
    has_curve = learning_curve is not None and len(learning_curve["points"]) > 1
    n_panels = 2 * bool(steps or n_epochs) + has_curve
    if not n_panels:
        raise DataError(
            "this run holds no curve: its head was not learnt in steps, or it is an evaluation, or of an earlier release"
        )
    figure = new_figure(4.6 * n_panels, 4)
    axes = figure.subplots(1, n_panels, squeeze=False)[0]
    for axis, panel in zip(axes, PANELS if steps or n_epochs else (), strict=False):
        _draw_steps(axis, record, steps, n_epochs, panel)
    if learning_curve is not None and has_curve:
        _draw_learning_curve(axes[-1], learning_curve, len(record["classes"]))
    return figure


def _draw_steps(axis: Axes, record: RunRecord, steps: Sequence[int], n_epochs: int, panel: _Panel) -> None:
    last = steps[-1] if steps else 0
    stride = max(last, 1) / max(n_epochs - 1, 1)  # fine-tuning is as wide as what was before
    ends = {}
    for split, colour in SPLITS.items():
        of_steps, of_epochs = (find_curve(entry, split, panel.measure) for entry in ("fitting", "fine_tuning"))
        before = [] if of_steps is None else [(float(step), y) for step, y in of_steps.numbers(record)]
        after = [] if of_epochs is None else [(last + epoch * stride, y) for epoch, y in of_epochs.numbers(record)]
        for label, line in ((split, before), (split if not steps else "", after)):
            if line:
                style = "o-" if len(line) < 3 or line is after else "-"
                axis.plot(*zip(*line, strict=True), style, ms=4, color=colour, label=label)
                ends[split] = line[-1][1]
    if n_epochs and steps:
        axis.axvline(last, color=QUIET, lw=1, ls="--", label="fine-tuning starts")
    _tick_steps(axis, last, stride, n_epochs)
    if panel.is_share:
        percent_axis(axis.yaxis)
    else:
        axis.set_ylim(bottom=0)
    axis.set_ylabel(panel.name)
    axis.legend(loc="lower right" if panel.is_share else "upper right")
    axis.set_title(_steps_title(ends, panel))


def _tick_steps(axis: Axes, last: float, stride: float, n_epochs: int) -> None:
    """Number the steps from 0, and behind them the epochs of fine-tuning from 0 again."""
    if not n_epochs:
        axis.set_xlabel("step")
        return
    from matplotlib.ticker import MaxNLocator

    steps = [t for t in MaxNLocator(4, integer=True).tick_values(0, last) if 0 <= t < last]
    epochs = [t for t in MaxNLocator(4, integer=True).tick_values(0, n_epochs - 1) if 0 < t < n_epochs]
    axis.set_xticks([*steps, *(last + t * stride for t in epochs)], [f"{t:g}" for t in (*steps, *epochs)])
    axis.set_xlabel("step, then epoch of fine-tuning" if last else "epoch of fine-tuning")


def _steps_title(ends: dict[str, float], panel: _Panel) -> str:
    """Say where each split's curve ends."""
    numbers = {split: percent(y) if panel.is_share else f"{y:z.2f}" for split, y in ends.items()}
    if not numbers:
        return panel.name.capitalize()
    return f"{panel.name.capitalize()} at the end: " + ", ".join(f"{split} {y}" for split, y in numbers.items())


def _draw_learning_curve(axis: Axes, curve: LearningCurveRecord, n_classes: int) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    points = curve["points"]
    x, y = np.array([p["n_images"] for p in points]), np.array([p["accuracy"] for p in points])
    low, high = np.array([p["interval"] for p in points]).T
    axis.fill_between(x, low, high, color=GREEN, alpha=0.18, lw=0, label="95 % interval")
    axis.plot(x, y, "o-", ms=4, color=GREEN, label="measured")
    if ahead := curve.get("forecast"):
        low, high = ahead["interval"]
        then = x[-1] + ahead["n_more"] * n_classes
        axis.plot([x[-1], then], [y[-1], (low + high) / 2], ":", color=PINK)
        axis.errorbar(
            [then], [(low + high) / 2], [[(high - low) / 2]], fmt="none", color=PINK, capsize=4, label="forecast (90 %)"
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    percent_axis(axis.yaxis)
    axis.set_xlabel("photos learnt from")
    axis.set_ylabel(f"accuracy, {'test' if curve.get('split') == 'test' else 'cross-validated'}")
    axis.legend(loc="lower right")
    axis.set_title(wrapped(curve.get("sentence") or "Accuracy by number of photos", 46))
